"""Whether to call, to call again, elsewhere, or not at all.

Each policy is an immutable specification (`Retry`, `Breaker`, `Hedge`, ...; together a `Policy`),
and, where it remembers anything, an object that holds the state (`RetryBudget`, `CircuitBreaker`,
`LatencyQuantile`, ...), usable alone. Time and randomness are always arguments.
"""

from holdfast.policy.adaptive import AdaptiveLimit
from holdfast.policy.admission import Admission, AdmissionControl
from holdfast.policy.breaker import Breaker, CircuitBreaker
from holdfast.policy.budget import Budget, RetryBudget
from holdfast.policy.coalescing import Coalesce, Flights
from holdfast.policy.deadline import deadline, remaining
from holdfast.policy.events import Event
from holdfast.policy.fallback import Fallback, StaleAnswers
from holdfast.policy.hedge import Hedge, LatencyQuantile
from holdfast.policy.injection import Fault
from holdfast.policy.limit import Limit, Limiter
from holdfast.policy.policy import Policy
from holdfast.policy.rate import RateLimit, RateLimiter
from holdfast.policy.retry import Retry

__all__ = [
    "AdaptiveLimit",
    "Admission",
    "AdmissionControl",
    "Breaker",
    "Budget",
    "CircuitBreaker",
    "Coalesce",
    "Event",
    "Fallback",
    "Fault",
    "Flights",
    "Hedge",
    "LatencyQuantile",
    "Limit",
    "Limiter",
    "Policy",
    "RateLimit",
    "RateLimiter",
    "Retry",
    "RetryBudget",
    "StaleAnswers",
    "deadline",
    "remaining",
]

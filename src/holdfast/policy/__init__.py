"""Whether to call, to call again, elsewhere, or not at all.

Each policy is an immutable specification (`Retry`, `Budget`, `Breaker`, `Limit`; together a
`Policy`), and, where it remembers anything, an object that holds the state (`RetryBudget`,
`CircuitBreaker`, `Limiter`), usable alone. Time and randomness are always arguments.
"""

from holdfast.policy.breaker import Breaker, CircuitBreaker
from holdfast.policy.budget import Budget, RetryBudget
from holdfast.policy.limit import Limit, Limiter
from holdfast.policy.policy import Policy
from holdfast.policy.retry import Retry

__all__ = [
    "Breaker",
    "Budget",
    "CircuitBreaker",
    "Limit",
    "Limiter",
    "Policy",
    "Retry",
    "RetryBudget",
]

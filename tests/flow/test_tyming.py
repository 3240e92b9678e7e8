"""Time that is handed out, beside hio's."""

from __future__ import annotations

from typing import Any

import pytest
from hio.base import tyming as hio  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from holdfast.flow import tyming as ours


@pytest.fixture(params=["ours", "hio"])
def tymist(request: pytest.FixtureRequest) -> Any:
    """A tymist at 0 with a tock of one second: ours or hio's, for both give tymths."""
    return ours.Tymist(tock=1.0) if request.param == "ours" else hio.Tymist(tock=1.0)


class TestTymist:
    def test_starts_at_zero_with_the_default_tock(self) -> None:
        """A tymist is at 0 and has hio's tock unless told otherwise."""
        tymist = ours.Tymist()
        assert (tymist.tyme, tymist.tock) == (0.0, 0.03125)
        assert ours.Tymist.Tock == hio.Tymist.Tock

    def test_takes_a_tock_of_zero(self) -> None:
        """Zero is a tock, not the absence of one."""
        assert ours.Tymist(tock=0).tock == 0.0

    def test_ticks(self) -> None:
        """A tick advances by the tock, or by what it is told, and returns the tyme."""
        tymist = ours.Tymist(tyme=10, tock=0.5)
        assert (tymist.tick(), tymist.tick(2), tymist.tick(tock=0.0)) == (10.5, 12.5, 12.5)
        assert isinstance(tymist.tyme, float)

    def test_can_be_set(self) -> None:
        """Tyme and tock can be set, and are floats."""
        tymist = ours.Tymist()
        tymist.tyme, tymist.tock = 5, 2
        assert (tymist.tick(), tymist.tock) == (7.0, 2.0)

    def test_hands_out_its_tyme(self) -> None:
        """A tymth gives the tyme as it is when it is called."""
        tymist = ours.Tymist(tock=1.0)
        tymth = tymist.tymen()
        tymist.tick()
        assert tymth() == 1.0

    @given(st.lists(st.floats(0, 1e6)))
    def test_does_as_hio(self, tocks: list[float]) -> None:
        """Any ticks lead both to the same tyme."""
        pair = ours.Tymist(), hio.Tymist()
        for tock in tocks:
            assert pair[0].tick(tock) == pair[1].tick(tock)


class TestTymee:
    def test_knows_the_tyme(self, tymist: Any) -> None:
        """A tymee goes by the tymth that it was given, anyone's."""
        tymth = tymist.tymen()
        tymee = ours.Tymee(tymth)
        tymist.tick()
        assert tymee.tyme == 1.0
        assert tymee.tymth is tymth

    def test_is_wound(self, tymist: Any) -> None:
        """Winding replaces the tymth."""
        tymee = ours.Tymee(tymth=lambda: 99.0)
        tymee.wind(tymist.tymen())
        assert tymee.tyme == 0.0

    def test_tells_that_it_was_not_wound(self) -> None:
        """The tyme of what was not wound is an error that says what to do."""
        tymee = ours.Tymee()
        assert tymee.tymth is None
        with pytest.raises(RuntimeError, match=r"Tymee knows no tyme .* wind\(tymist\.tymen\(\)\)"):
            _ = tymee.tyme

    def test_refuses_what_is_no_tymth(self) -> None:
        """A duration in the place of the tymth is refused at once."""
        with pytest.raises(TypeError, match="a tymth is a function"):
            ours.Tymer(5.0)  # type: ignore[arg-type]


class TestTymer:
    def test_measures(self, tymist: Any) -> None:
        """A tymer tells what is over, what is left, and when it is expired."""
        tymer = ours.Tymer(tymist.tymen(), 2.0)
        seen = []
        for _ in range(4):
            seen.append((tymer.elapsed, tymer.remaining, tymer.expired))
            tymist.tick()
        assert seen == [(0, 2, False), (1, 1, False), (2, 0, True), (3, -1, True)]
        assert tymer.duration == 2.0

    def test_takes_keywords(self, tymist: Any) -> None:
        """All can be given by name, as hio's programs do."""
        tymer = ours.Tymer(duration=2.0, start=1.0, tymth=tymist.tymen())
        assert (tymer.elapsed, tymer.remaining) == (-1.0, 3.0)

    def test_without_a_duration_is_expired(self, tymist: Any) -> None:
        """A duration of nothing is over at once."""
        assert ours.Tymer(tymist.tymen()).expired

    def test_starts_over(self, tymist: Any) -> None:
        """Starting takes the tyme of now, and the last duration unless told otherwise."""
        tymer = ours.Tymer(tymist.tymen(), 2.0)
        tymist.tick(5.0)
        assert (tymer.start(), tymer.remaining) == (5.0, 2.0)
        assert (tymer.start(3.0), tymer.remaining) == (5.0, 3.0)
        assert (tymer.start(start=4.0), tymer.remaining) == (4.0, 2.0)
        assert (tymer.start(duration=1.0, start=0.0), tymer.expired) == (0.0, True)

    def test_restarts_without_loss(self, tymist: Any) -> None:
        """A restart goes on from the last end, however late it comes."""
        tymer = ours.Tymer(tymist.tymen(), 2.0)
        tymist.tick(2.75)
        assert (tymer.restart(), tymer.remaining) == (2.0, 1.25)
        assert (tymer.restart(duration=5.0), tymer.remaining) == (4.0, 6.25)
        assert tymer.duration == 5.0

    def test_starts_when_it_is_wound(self, tymist: Any) -> None:
        """A tymer can be made before there is a tyme, and starts when there is."""
        tymer = ours.Tymer(duration=2.0)
        tymist.tick(10.0)
        tymer.wind(tymist.tymen())
        assert (tymer.elapsed, tymer.remaining) == (0.0, 2.0)

    def test_starts_over_at_another_base(self, tymist: Any) -> None:
        """A tymer that is wound anew starts at the new base's tyme."""
        tymer = ours.Tymer(tymist.tymen(), 2.0, start=1.0)
        tymer.wind(ours.Tymist(tyme=1000.0).tymen())
        assert (tymer.elapsed, tymer.remaining) == (0.0, 2.0)

    def test_of_hio_goes_by_our_tyme(self) -> None:
        """A tymer of hio accepts our tymths."""
        tymist = ours.Tymist(tock=1.0)
        tymer = hio.Tymer(tymth=tymist.tymen(), duration=2.0)
        tymist.tick(2.0)
        assert tymer.expired

    @given(
        st.floats(0, 100),
        st.none() | st.floats(0, 100),
        st.lists(
            st.tuples(st.sampled_from(["start", "restart"]), st.floats(0, 9), st.floats(0, 9))
        ),
    )
    def test_does_as_hio(
        self, duration: float, start: float | None, steps: list[tuple[str, float, float]]
    ) -> None:
        """Any starts and restarts have the same outcome as hio's."""
        tymist = ours.Tymist()
        pair = (
            ours.Tymer(tymth=tymist.tymen(), duration=duration, start=start),
            hio.Tymer(tymth=tymist.tymen(), duration=duration, start=start),
        )
        for step, tock, length in steps:
            tymist.tick(tock)
            mine, theirs = (getattr(tymer, step)(duration=length) for tymer in pair)
            assert mine == theirs
            assert pair[0].elapsed == pair[1].elapsed
            assert pair[0].remaining == pytest.approx(pair[1].remaining, abs=1e-9)

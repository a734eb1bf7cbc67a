"""Signals sent to this very process."""

import os
import signal
import threading

import pytest

from jaxgan.interrupt import Interrupt


@pytest.fixture
def received():
    """Stands in for the ordinary effect of both signals, and puts pytest's own handlers back."""
    seen = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    former = {number: signal.signal(number, lambda n, _: seen.append(n)) for number in numbers}
    yield seen
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_has_its_effect(received, number):
    with Interrupt() as interrupt:
        assert interrupt.signal_name is None
        signal.raise_signal(number)
        assert interrupt.signal_name == number.name
        assert received == []
        signal.raise_signal(number)
        assert received == [number]
        assert interrupt.signal_name == number.name


def test_a_second_signal_of_the_other_kind_has_its_effect_too(received):
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGINT]
        assert interrupt.signal_name == "SIGTERM"


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_handlers_are_put_back(received, interrupted):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ZeroDivisionError), Interrupt():
        if interrupted:
            signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_a_worker_thread_leaves_the_handlers_alone(received):
    """Python raises ValueError when a thread other than the main one sets a handler."""
    problems, before = [], signal.getsignal(signal.SIGTERM)

    def work():
        try:
            with Interrupt() as interrupt:
                problems.extend([] if signal.getsignal(signal.SIGTERM) is before else ["handler changed"])
                problems.extend([] if interrupt.signal_name is None else ["noted"])
        except ValueError as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert problems == []


def test_one_inside_another_sees_what_the_outer_one_sees(received):
    """A run inside a sweep: one Ctrl-C stops both, the second one has its ordinary effect."""
    with Interrupt() as outer:
        with Interrupt() as inner:
            signal.raise_signal(signal.SIGINT)
            assert inner.signal_name == outer.signal_name == "SIGINT" and received == []
            signal.raise_signal(signal.SIGINT)
            assert received == [signal.SIGINT]
        with Interrupt() as another:
            assert another.signal_name == "SIGINT"
    with Interrupt() as afterwards:
        assert afterwards.signal_name is None
        signal.raise_signal(signal.SIGTERM)
        assert afterwards.signal_name == "SIGTERM"

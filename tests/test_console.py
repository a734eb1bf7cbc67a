"""Long work is told about, short work is not."""

from jaxgan import console


def test_progress_is_told_at_most_so_often_with_rate_and_time_left(monkeypatch):
    lines, now = [], [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console.logging, "info", lambda text, *values: lines.append(text % values))
    tell = console.progress_of("samples", every=10.0)
    for seconds, done in ((1, 100), (9.9, 990), (10, 1000), (15, 1500), (20, 2000), (29, 2500)):
        now[0] = 100.0 + seconds
        tell(done, 4000)
    assert lines == [
        "1000 of 4000 samples, 100 a second, 30 s left",
        "2000 of 4000 samples, 100 a second, 20 s left",
    ]

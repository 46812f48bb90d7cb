"""Counts, time, machine, versions and data of runs, as text."""

from flatwide.report import facts

RUN = {"status": "finished", "seconds": 30.0, "device": "cpu", "num_devices": 1, "threads": 1, "x64": False}
RUN |= {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00", "versions.jax": "0.10.2"}
RUN |= {"dataset": "digits"}


def facts_of(runs, num_planned=None, identities=None):
    return dict(facts.facts(runs, num_planned=num_planned, identities=identities or {}))


def test_runs_are_counted_by_their_end():
    states = ["finished", "finished", "diverged", "unfinished", "failed"]
    runs = [RUN | {"status": state} for state in states]
    assert facts_of(runs)["runs"] == "3 done, 1 diverged among them, 1 unfinished, 1 failed"
    assert facts_of(runs, num_planned=8)["runs"].startswith("3 of 8 done")
    assert facts_of(runs, num_planned=3)["runs"].startswith("3 of 3 done")


def test_a_smaller_study_after_a_larger_one_makes_no_more_than_all():
    states = ["finished", "finished", "diverged"]
    assert facts_of([RUN | {"status": state} for state in states], num_planned=2)["runs"] == (
        "3 done (the last study planned 2), 1 diverged among them"
    )


def test_time_is_the_sum_over_runs():
    later = RUN | {"started": "2026-01-01T00:00:30+00:00", "finished": "2026-01-01T00:02:00+00:00", "seconds": 90.0}
    text = facts_of([RUN, later, RUN | {"seconds": None}])["time"]
    assert text.startswith("2m00s of training, summed over 2 runs")
    assert text.endswith("from 2026-01-01 00:00 UTC to 2026-01-01 00:02 UTC")


def test_several_machines_versions_and_data_are_all_named():
    other = RUN | {"device": "NVIDIA H100", "threads": 8, "versions.jax": "0.11.0"}
    listed = facts_of([RUN | {"run": "a"}, other | {"run": "b"}], identities={"a": {"data": "1f"}, "b": {"data": "2e"}})
    assert listed["machine"] == (
        "1 × cpu, 1 CPU thread, 32-bit numbers (1 run); 1 × NVIDIA H100, 8 CPU threads, 32-bit numbers (1 run)"
    )
    assert listed["versions"] == "jax 0.10.2 (1 run), 0.11.0 (1 run)"
    assert listed["data"] == "digits: fingerprint 1f; digits: fingerprint 2e"


def test_what_is_not_known_is_left_out():
    assert facts_of([{"status": "finished", "rho": 0.0}]) == {"runs": "1 done"}


def test_fields_that_only_some_runs_read_do_not_vary_by_that():
    base = {"rho": 0.0, "optimizer": "sam", "sam_variant": None, "gradient_clip": None, "own": None, "aside.note": None}
    sam = base | {"rho": 0.1, "sam_variant": "normalized", "own": 1, "aside.note": "again"}
    assert facts.varied([base, sam], base) == ["rho", "aside.note"]
    others = [base, sam, sam | {"sam_variant": "friendly", "gradient_clip": 1.0, "own": 2}]
    assert facts.varied(others, base) == ["rho", "sam_variant", "gradient_clip", "own", "aside.note"]
    assert facts.settings([base, sam], ["sam_variant", "own"]) == [("own", "1")]
    assert facts.settings([base, sam], ["sam_variant", "own"], with_defaults=True)[0] == ("sam_variant", "normalized")

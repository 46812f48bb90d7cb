"""The list of breaks fits the package: `make mutants` tries them."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST = runpy.run_path(str(ROOT / "tests" / "mutants"))


@pytest.mark.parametrize("mutant", LIST["MUTANTS"], ids=lambda mutant: mutant.what)
def test_a_break_fits_one_place_of_the_package_and_its_tests_are_there(mutant):
    path = LIST["find"](mutant.old)
    compile(path.read_text().replace(mutant.old, mutant.new), str(path), "exec")
    assert mutant.old != mutant.new
    for test in mutant.tests:
        file, _, function = test.partition("[")[0].partition("::")
        assert f"def {function}" in (ROOT / file).read_text()

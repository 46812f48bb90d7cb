"""Conditions on the columns of a table: the values are those of pandas, and nothing but a condition is computed."""

import time

import numpy as np
import pandas as pd
import pytest

from flatwide.study import expressions

TABLE = pd.DataFrame(
    {
        "run": pd.Series(["a-1", "b-2", "c-3", "d-4"], dtype="str"),
        "status": pd.Series(["finished", "finished", "running", "diverged"], dtype="str"),
        "num_neurons": pd.Series(["(4,)", "(6,)", "(300,100)", None], dtype="str"),
        "rho": [0.0, 0.1, np.nan, 0.2],
        "seed": [0, 1, 2, 3],
        "num_params": pd.Series([70, None, 266610, 30], dtype="Int64"),
        "nesterov": [True, False, True, False],
        "augment": pd.Series([True, None, False, True], dtype="boolean"),
        "curvature.trace": [1.5, np.nan, -3.0, 8.0],
        "own field": [1, 2, 3, 4],
    }
)


@pytest.mark.parametrize(
    "text",
    [
        "rho > 0",
        "rho >= 0.1",
        "rho <= 0.1 and seed < 3",
        "rho != 0",
        "rho == 0 or rho == 0.1",
        "rho in [0, 0.1]",
        "rho in (0, 0.1)",
        "rho not in [0, 0.1]",
        "rho == [0, 0.1]",
        "rho != [0, 0.1]",
        "seed in [1, 2.0]",
        "num_neurons == '(4,)'",
        "num_neurons != '(4,)'",
        "num_neurons in ['(4,)', '(300,100)']",
        "'(4,)' == num_neurons",
        "run < 'c'",
        "status == run",
        "0 <= rho < 0.2",
        "0 < seed < 3 < num_params",
        "not rho > 0",
        "not (rho > 0 and seed > 1) or nesterov",
        "nesterov",
        "not nesterov",
        "nesterov == True",
        "augment and rho >= 0",
        "not augment",
        "num_params > 50",
        "num_params != 70",
        "num_params not in [70]",
        "~(rho > 0) & (seed > 0) | (num_params > 100)",
        "`curvature.trace` > 0",
        "`curvature.trace` / num_params < 0.1",
        "`own field` % 2 == 1",
        "seed + 1 == 2 * `own field` - seed - 1",
        "seed // 2 == 1",
        "-rho < -0.05",
        "rho ** 2 < 0.02",
        "rho * 2 ** 3 > 1",
        "seed / 0 > 1",
        "rho < inf",
        "rho == rho",
        "  rho > 0  ",
        "(rho\n> 0)",
    ],
)
def test_values_are_those_of_pandas(text):
    expected = TABLE.eval(text.strip().replace("\n", " ")).fillna(False).astype(bool)
    assert expressions.evaluate(text, TABLE).tolist() == expected.tolist()


def test_a_missing_cell_makes_a_comparison_false():
    assert expressions.evaluate("rho > -1", TABLE).tolist() == [True, True, False, True]
    assert expressions.evaluate("num_params < 1e9", TABLE).tolist() == [True, False, True, True]
    assert expressions.evaluate("num_neurons in ['(4,)']", TABLE).tolist() == [True, False, False, False]


def test_a_column_with_a_dot_needs_no_backquotes():
    assert expressions.evaluate("curvature.trace > 0 and `rho` >= 0", TABLE).tolist() == [True, False, False, True]
    assert expressions.evaluate("'é' != run and curvature.trace > 0", TABLE).tolist() == [True, False, False, True]
    assert expressions.evaluate("run != '`rho`'", TABLE).all()


NOT_ALLOWED = {  # the expression, and the piece that the message names
    "@os.system('touch {file}') == 0": 'syntax error at character 1, near "@os.system(',
    "__import__('os').system('touch {file}') == 0": "the call \"__import__('os').system(",
    "run.to_pickle('{file}') == 1": 'the call "run.to_pickle(',
    "rho.to_csv('{file}') == 1": 'the call "rho.to_csv(',
    "open('{file}', 'w') == 1": 'the call "open(',
    "eval('1') == 1": "the call \"eval('1')\"",
    "rho.apply(print) == 1": "the call 'rho.apply(print)'",
    "sin(rho) > 0": "the call 'sin(rho)'",
    "rho.__class__ == 1": "the attribute 'rho.__class__'",
    "rho.values > 0": "the attribute 'rho.values'",
    "rho.T.T > 0": "the attribute 'rho.T.T'",
    "(rho + 1).values > 0": "the attribute '(rho + 1).values'",
    "''.__class__.__mro__ == 1": "the attribute \"''.__class__",
    "rho[0] > 0": "the subscript 'rho[0]'",
    "run.str[0] == 'a'": "the subscript 'run.str[0]'",
    "[rho][0] > 0": "the subscript '[rho][0]'",
    "lambda: rho": "the function 'lambda: rho'",
    "(lambda: rho)() > 0": "the call '(lambda: rho)()'",
    "run == f'{{rho}}'": "the formatted text \"f'{rho}'\"",
    "[r for r in rho] == 1": "the expression '[r for r in rho]'",
    "{{r for r in rho}} == 1": "the expression '{r for r in rho}'",
    "any(r for r in rho)": "the call",
    "{{'rho': 1}} == 1": "the expression \"{'rho': 1}\"",
    "rho in {{0, 1}}": "the expression '{0, 1}'",
    "rho if rho else seed": "the expression 'rho if rho else seed'",
    "(rho := 1) == 1": "the expression 'rho := 1'",
    "rho in [*run]": "the expression '*run'",
    "rho is None": "the operator of 'rho is None'",
    "rho == None": "the constant 'None'",
    "rho == ...": "the constant '...'",
    "run == b'a'": "the constant \"b'a'\"",
    "rho == 1j": "the constant '1j'",
    "rho @ seed > 1": "the operator of 'rho @ seed'",
    "seed << 99999999 > 1": "the operator of 'seed << 99999999'",
    "seed ^ 1 == 1": "the operator of 'seed ^ 1'",
    "await_(rho)": "the call",
    "rho in [(yield)]": "the expression 'yield'",
    "rho = 0.1": "near '= 0.1'",
    "rho >": "syntax error at character 6: invalid syntax",
    "rho > 0; import os": "near '; import os'",
    "import os": "near 'import os'",
    "rho > 0 `": "near '`'",
    "rho > (": "at character 7",
    "run == 'a": 'near "\'a"',
    "": "the expression is empty",
    "run == '\0'": "null byte",
    "run == '\udcff'": "cannot be read",
}


@pytest.mark.parametrize("text", NOT_ALLOWED)
def test_what_is_not_allowed_is_refused_and_not_run(text, tmp_path):
    file = tmp_path / "file"
    with pytest.raises(ValueError) as caught:
        expressions.evaluate(text.format(file=file) if "file" in text or "{{" in text else text, TABLE)
    assert NOT_ALLOWED[text].replace("{{", "{") in str(caught.value)
    assert "Allowed: columns" in str(caught.value)
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9 ** 9 ** 9 > 1", "9 ** 9"),
        ("seed < 9 ** 9 ** 9 ** 9", "9 ** 9"),
        ("seed < 10 ** 19", "'10 ** 19' is beyond 64 bits"),
        ("seed < 99999999999999999999", "'99999999999999999999' is beyond 64 bits"),
        ("seed < 9223372036854775807 * 2", "is beyond 64 bits"),
        (f"seed < {'9' * 5000}", "4300 digits"),
        ("run == 'a' * 10 ** 9", "\"'a' * 10 ** 9\": expected numbers; \"'a'\" is text"),
        ("run * 10 ** 9 == 'a'", "'run * 10 ** 9': expected numbers; 'run' is a column of text"),
        ("run + 'a' == 'a-1a'", "expected numbers; 'run' is a column of text"),
        ("rho in [0] * 10 ** 9", "expected numbers; '[0]' is a list"),
        ("run % rho == 'a'", "expected numbers; 'run' is"),
        ("-run == 1", "'-run': expected numbers"),
        ("(-8) ** 0.5 > 1", "'(-8) ** 0.5' is not a real number"),
        ("rho > 1 / 0", "'1 / 0' cannot be computed: ZeroDivisionError"),
        ("rho > 'a'", "\"rho > 'a'\" cannot be computed: TypeError"),
        ("seed ** -1 > 0", "'seed ** -1' cannot be computed: ValueError"),
        ("rho > [0, 1]", "'rho > [0, 1]': a list is allowed only after in, not in, == and !="),
        ("[0] == [0]", "a list is allowed only after"),
        ("[0] in rho", "expected a list of constants such as [0, 0.1] after in; 'rho' is a column"),
        ("rho in seed", "'seed' is a column"),
        (
            "num_neurons == (300, 100)",
            "is text, and so is a tuple in it; write it in quotation marks, such as '(300,100)'.",
        ),
        ("'1' in run", "'run' is a column"),
        ("rho in 'abc'", "\"'abc'\" is text"),
        ("rho in [seed]", "expected constants in the list '[seed]'; 'seed' is a column"),
        ("rho in [[0]]", "expected constants in the list '[[0]]'; '[0]' is a list"),
        ("rho and seed", "expected a condition such as rho > 0; 'rho' is a column of numbers"),
        ("not seed", "'seed' is a column of numbers"),
        ("~seed == 1", "'seed' is a column of numbers"),
        ("rho > 0 & seed == 1", "'0' is a number"),
        ("rho", "expected a condition such as rho > 0; 'rho' is a column of numbers"),
        ("run", "'run' is a column of text"),
        ("1 == 1", "expected a condition on a column"),
        ("True", "expected a condition on a column"),
        ("rho, seed", "constants in the list 'rho, seed'; 'rho' is a column"),
        (f"{'not ' * 90_000} nesterov", "nested too deeply"),
        (f"{'-' * 100_000}rho > 0", "nested too deeply"),
        (f"{'(' * 5000}rho{')' * 5000} > 0", "too many nested parentheses"),
        (f"{'+'.join(['rho'] * 20_000)} > 0", "nested too deeply"),
        (f"{'+'.join(['rho'] * 700)} > 0 or {'not ' * 700} nesterov", "nested too deeply"),
        ("width > 3", "column='width' is not known. Known: augment,"),
        ("curvature.trac > 3", "column='curvature.trac' is not known. Did you mean 'curvature.trace'?"),
        ("`num_param` > 3", "column='num_param' is not known. Did you mean 'num_params'?"),
        ("seeds in [1]", "Did you mean 'seed'? Known: augment, curvature.trace, nesterov, num_neurons, num_params"),
    ],
)
def test_what_cannot_be_computed_is_refused_at_once(text, message):
    start = time.monotonic()
    with pytest.raises(ValueError) as caught:
        expressions.evaluate(text, TABLE)
    assert message in str(caught.value)
    assert time.monotonic() - start < 5


def test_the_place_of_a_fault_is_counted_in_characters():
    with pytest.raises(ValueError, match="the call 'sin\\(rho\\)' at character 15"):
        expressions.evaluate("run != 'é' or sin(rho)", TABLE)
    with pytest.raises(ValueError, match="the call 'f\\(`own field`\\)' at character 21"):
        expressions.evaluate("`curvature.trace` > f(`own field`)", TABLE)
    with pytest.raises(ValueError, match="at character 28, near '\\* 3'"):
        expressions.evaluate("`curvature.trace` > 0 and +* 3", TABLE)


def test_a_condition_is_checked_without_a_table():
    expressions.check("anything > 0 and `any.thing` in [1, 2]")
    with pytest.raises(ValueError, match="the call"):
        expressions.check("anything > f(1)")

"""The modules without flags: they write files of the repository, so a flag is not ignored."""

import pytest

from tests.helpers import call, one_line_of_error


@pytest.mark.parametrize("name", ["attention_speed", "doc_tables", "gpu", "paper_tables", "speed"])
def test_any_flag_is_refused_and_help_is_given(name: str):
    script = f"benchmarks/{name}.py"
    said = one_line_of_error(call(script, "--WINGS", "2", expect=2))
    assert said == f"{name}.py: error: unrecognized arguments: --WINGS 2 (see {name}.py --help)"
    shown = call(script, "--help").stdout
    assert f"python -m benchmarks.{name}" in shown

"""Which experiment may judge the texts of another."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.evaluation import judge
from pipeline.evaluation.judge import load_judge
from pipeline.runtime.errors import UserError

DATA = {"name": "tiny", "fingerprint": "a", "tokenizer_fingerprint": "t", "settings": {"min_length": 3}}


@pytest.mark.parametrize(
    ("own", "refused"),
    [
        (DATA, False),
        ({**DATA, "settings": {}}, False),  # of a version that did not record this setting
        ({**DATA, "fingerprint": "b"}, True),
        ({"name": "tiny"}, True),
    ],
)
def test_a_judge_knows_the_same_data(own: dict[str, Any], refused: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judge, "read_config", lambda _: {"data": own})
    monkeypatch.setattr(judge, "load_experiment", lambda *_: "the judge")

    def load() -> Any:
        return load_judge(Path("outputs"), "p", "lm", Path("data"), {"data": DATA})

    if refused:
        with pytest.raises(UserError, match="a judge must know the same tokens"):
            load()
    else:
        assert load() == "the judge"

"""The other implementation's answers, computed once per test process."""

import pytest

from tests.oracle.jobs import Answers, ask_reference


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    pytest.importorskip("transformers", reason="the oracle is a test dependency")
    return ask_reference(tmp_path_factory.mktemp("oracle"))

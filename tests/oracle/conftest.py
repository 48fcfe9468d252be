"""The other implementation's answers."""

import pytest

from tests.oracle.families import FAMILIES, THROUGH_THE_CLUSTER
from tests.oracle.jobs import Answers, ask_reference, demo_job, family_jobs, llama_jobs


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of the demo model, and of Llamas of every kind."""
    pytest.importorskip("transformers", reason="the oracle is a test dependency")
    folder = tmp_path_factory.mktemp("oracle")
    return ask_reference(folder, llama_jobs(folder))


@pytest.fixture(scope="session")
def demo_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of the demo model alone."""
    pytest.importorskip("transformers", reason="the oracle is a test dependency")
    return ask_reference(tmp_path_factory.mktemp("oracle"), demo_job())


@pytest.fixture(scope="session")
def family_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of every family."""
    pytest.importorskip("transformers", reason="the oracle is a test dependency")
    folder = tmp_path_factory.mktemp("families")
    return ask_reference(folder, family_jobs(folder, FAMILIES))


@pytest.fixture(scope="session")
def few_family_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of those families that go through a cluster in every run of the tests."""
    pytest.importorskip("transformers", reason="the oracle is a test dependency")
    folder = tmp_path_factory.mktemp("families")
    return ask_reference(folder, family_jobs(folder, THROUGH_THE_CLUSTER))

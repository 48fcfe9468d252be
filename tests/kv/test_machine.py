"""The page cache under every order of events that Hypothesis can think of. See tests/kv/machine.py."""

from hypothesis import settings

from tests.kv.machine import PageMachine

TestPageMachine = PageMachine.TestCase
TestPageMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)

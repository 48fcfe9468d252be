"""`baton bench` under test, measurements of older bars (`python -m tests.bench.NAME`), and results with a bar."""

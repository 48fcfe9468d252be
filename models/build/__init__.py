"""The room where model folders are made: the trained demo model and random-weight models of any shape.

Lives here: the corpus, the tokenizer, a plain training network, the training run, evaluation, the folder format.
May not live here: anything a server needs to run. The house never imports this room, and this room never imports
the house, so that the network here and the serving path check each other. Callers: people, the Makefile, tests.

- `python -m models.build.train`: train the demo model (an hour on two idle cores)
- `python -m models.build.evaluate models/demo`: held-out loss and samples
- `python -m models.build.random_weights S --out DIR`: random weights of a named shape
"""

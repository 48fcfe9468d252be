"""Models that come with the checkout: `demo/` is a Hugging Face folder, `build/` the room that makes such folders."""

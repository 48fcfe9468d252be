"""The model: what it is (spec), whether its folder may be trusted, its weights, and its forward pass.

A folder is a Hugging Face one: config.json, generation_config.json, safetensors weights, optionally manifest.json.
Lives here: config.json -> ModelSpec (a function per architecture, in families/), checks of the folder, the digest that
names the weights, weights -> tensors laid out for the device, layers and the one decoder class of all families.
May not: run code or unpickle anything that came with a model; know a request, a step, a page's owner or a service.
Torch is imported by rope, ragged, layer_weights, layers, fused_layers, decoder and load only: what a description needs
works without it.
Who may call: common/engine, common/worker, services, tests. `weights` is the door to safetensors.
"""

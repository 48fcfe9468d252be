"""KV pages: how they look, how they are named, who holds them, where their bytes are.

Lives here: the page layout, prefix hashes, page digests and the seals made of them, the page pool (accounting), the
prefix index, the page cache that joins the two, page storage (bytes) and staging buffers, of a host or of a GPU. Three
layers of a page stay apart: an id is an integer, accounting is pure Python, bytes are storage.
May not: know a sequence, a service, a wire or Redis. Only torch_storage.py and what moves pages on a GPU (device_*.py,
torch_device.py, cuda_stream.py) see torch.
Who may call: common/model, common/engine, common/transfer, common/directory, common/worker, services, tests. The pool
and the cache have one writer: the step loop.
"""

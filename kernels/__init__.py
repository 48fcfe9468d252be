"""What the model computes with: tensors and integers in, tensors out.

Lives here: one operator per file, its choice of implementation by device, a plain torch oracle of each in reference.py
(of sampling in reference_sampling.py), cpu/, what the CPU path needs to be fast and exact, gpu/, the kernels in Triton,
and bench/, which measures them.
May not: import anything but torch and triton; know a request, a sequence, a page's owner or a model family.
Who may call: common/model, common/engine, tests.

Promise of the CPU path: a row's result does not depend, bit for bit, on how many other rows are computed with it, on
the number of threads, or on how a context was cut into chunks. With native operators in every type, with torch's alone
in fp32. kernels/cpu says how, and where it was measured.
"""

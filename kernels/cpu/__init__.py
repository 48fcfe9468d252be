"""What the CPU path needs to be fast, and to give a row the same bits whatever is computed beside it.

Lives here: native operators (native/, C++ behind a plain C interface, a library per instruction set), the door to the
compiler (build.py) and to the libraries (library.py); and the torch operators that serve where there is no compiler.
May not: be called by anybody but the operators in `kernels` and common/model's stack of layers.

Native operators sum an element in one order, in one accumulator, whatever is beside it: channels in rising order in
linear layers (native/linear.h), keys in tiles and spans counted from position 0 in attention (native/attention.cpp).
Bf16 and fp16 products are exact in fp32, so linear layers agree bit for bit on AVX-512 with and without bf16, AVX2 and
plain C++. Tile registers (AMX) sum in their own order, fp32 without fused steps rounds twice: workers of one cluster
should be alike. Measured in November 2026 on 2 cores of an AMD EPYC (Zen 4): bf16 products at 423 of 469 GFLOP/s (512
rows), one row's weights at 53 GB/s; on one thread 31.5 of 33 GB/s. AMX never ran on hardware: its logic is tested
emulated.

How torch's operators are exact in fp32. A floating-point sum depends on the order of its terms, and matrix libraries
choose the order by the shape of the whole product. So every product keeps the shape that decides it fixed: weights are
packed by oneDNN and multiplied with at least two rows; attention reads keys in tiles of 512 whose missing keys are
zeros with weight zero, and queries in multiples of four. Measured in November 2026 on an AMD EPYC (Zen 4, AVX-512) with
torch 2.13.0+cpu (oneDNN 3.12.0, MKL 2024.2), 1 and 2 threads, also with AVX2 code paths forced:

    torch.nn.functional.linear (MKL)   1 to 3 rows differ from more; with 2 threads 5, 6, 7, 9, 10, 11 rows do as well
    packed linear (oneDNN)             equal from 2 rows up to 2,048, and on 1 thread and 2
    scaled_dot_product_attention       context padded to 16 to 256: differs by some 5e-7 between chunkings
    the same, padded to 512            equal for every chunking, for decode against extend, and on 1 thread and 2
    rms_norm, silu, rotary             equal for any number of rows

Packing also pays: 2 to 4 times faster below 32 rows, 10 % above. On a machine where a library orders sums otherwise
the tests of this room say so; the last bits differ then, and greedy tokens only at a near-tie.
"""

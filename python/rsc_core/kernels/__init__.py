"""CUDA kernels (``x.cu``) beside their numba twins (``x.py``): same name, same arguments, same result."""

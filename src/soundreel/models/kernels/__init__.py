"""Row operations of the transformer: `dispatch.operations` gives Triton kernels on GPUs and PyTorch anywhere else."""

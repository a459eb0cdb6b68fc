"""Row operations of the transformer: one door, `operations`, to Triton kernels on GPUs or plain PyTorch anywhere."""

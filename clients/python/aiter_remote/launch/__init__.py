"""Running a script that was written for torch and AITER on a GPU: `python3 -m aiter_remote SCRIPT`. buffers.py: memory that
may be on the service; tensor.py: tensors marked as on 'cuda'; attention.py: attention written out in torch; cuda.py:
torch.cuda; main.py: the command line."""

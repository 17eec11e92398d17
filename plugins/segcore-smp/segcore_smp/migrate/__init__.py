"""``segcore migrate``: programs written for segmentation_models_pytorch, rewritten. Needs libcst."""

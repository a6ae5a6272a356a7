"""Checks for compilation under the names of several versions of torch."""

import torch

# torch.compiler has both since 2.3. During export, the first is true and the second is false.
is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._dynamo.is_compiling
is_dynamo_compiling = getattr(torch.compiler, 'is_dynamo_compiling', None) or torch._dynamo.is_compiling

"""Whether torch is compiling, which several versions of it answer by several names."""

import torch

# torch.compiler has both since 2.3. While exporting, the first is true and the second is not.
is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._dynamo.is_compiling
is_dynamo_compiling = getattr(torch.compiler, 'is_dynamo_compiling', None) or torch._dynamo.is_compiling

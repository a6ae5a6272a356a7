# IFN on LEVIR-CD+ in mmsegmentation: 256×256 crops, 40,000 iterations
_base_ = ['ifn_mmseg_256x256_40k_levircd.py', '../_base_/datasets/levircdplus.py']
train_dataloader = dict(dataset=_base_.folders.train)
val_dataloader = dict(dataset=_base_.folders.val)
test_dataloader = dict(dataset=_base_.folders.test)

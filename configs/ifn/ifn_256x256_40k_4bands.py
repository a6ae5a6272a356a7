# IFN on pairs of four bands with 16 bits in open-cd: 256×256 crops, 40,000 iterations
_base_ = ['ifn_256x256_40k_levircd.py', '../_base_/datasets/four_bands.py']
model = dict(
    backbone_inchannels=4,
    data_preprocessor=_base_.bands.data_preprocessor,
    backbone=dict(in_channels=4))
train_dataloader = dict(dataset=_base_.bands.train)
val_dataloader = dict(dataset=_base_.bands.test)
test_dataloader = dict(dataset=_base_.bands.test)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[0] = _base_.load_pair

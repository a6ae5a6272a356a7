# IFN's decoder on Swin-T instead of VGG16, trained too; the recipe of ifn_256x256_40k_levircd.py
_base_ = ['ifn_256x256_40k_levircd.py', '../_base_/encoders/swin-t.py']
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(_delete_=True, type='ifn_plugin.PairEncoder', backbone=_base_.encoder),
    decode_head=dict(in_channels=_base_.pair_channels))

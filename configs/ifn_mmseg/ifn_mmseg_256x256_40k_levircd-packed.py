# The samples of ifn_mmseg_256x256_40k_levircd.py, read from a packed data set and warped crop by crop:
# python -m ifn_plugin.tools.pack_dataset data/LEVIR-CD data/LEVIR-CD-packed
_base_ = ['ifn_mmseg_256x256_40k_levircd.py', '../_base_/datasets/packed.py']
data_root = _base_.packed.data_root
train_pipeline = [
    *_base_.augmentation,
    dict(type='ifn_plugin.PairPhotoMetricDistortion', **_base_.photometry),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(**_base_.packed, pipeline=train_pipeline))
val_dataloader = dict(dataset=_base_.packed)
test_dataloader = dict(dataset=_base_.packed)

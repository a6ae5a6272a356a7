# IFN's decoder on ResNet-18 with a stem of three convolutions, from mmseg: strides 4, 8, 16, 32
_base_ = 'ifn.py'
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='ifn_plugin.PairEncoder',
        backbone=dict(
            type='mmseg.ResNetV1c',
            depth=18,
            norm_cfg=dict(type='BN'),
            init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet18_v1c'))),
    decode_head=dict(in_channels=(128, 256, 512, 1024)))

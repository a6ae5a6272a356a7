# IFN's decoder on ConvNeXt-T, from mmpretrain (pip install mmpretrain): strides 4, 8, 16, 32
_base_ = 'ifn.py'
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='ifn_plugin.PairEncoder',
        backbone=dict(
            type='mmpretrain.ConvNeXt',
            arch='tiny',
            out_indices=(0, 1, 2, 3),
            drop_path_rate=0.2,
            gap_before_final_norm=False,
            init_cfg=dict(
                type='Pretrained',
                checkpoint='https://download.openmmlab.com/mmclassification/v0/convnext/downstream/'
                'convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth',
                prefix='backbone.'))),
    decode_head=dict(in_channels=(192, 384, 768, 1536)))

# IFN's decoder on VGG16 with batch normalization, from mmpretrain (pip install mmpretrain): strides 2, 4, 8, 16, 32
_base_ = 'ifn.py'
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='ifn_plugin.PairEncoder',
        backbone=dict(
            type='mmpretrain.VGG',
            depth=16,
            norm_cfg=dict(type='BN'),
            out_indices=(0, 1, 2, 3, 4),
            init_cfg=dict(
                type='Pretrained',
                checkpoint='https://download.openmmlab.com/mmclassification/v0/vgg/'
                'vgg16_bn_batch256_imagenet_20210208-7e55cd29.pth',
                prefix='backbone.'))),
    decode_head=dict(in_channels=(128, 256, 512, 1024, 1024)))

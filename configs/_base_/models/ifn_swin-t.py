# IFN's decoder on Swin-T, from mmseg: strides 4, 8, 16, 32
_base_ = 'ifn.py'
model = dict(
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='ifn_plugin.PairEncoder',
        backbone=dict(
            type='mmseg.SwinTransformer',
            embed_dims=96,
            depths=(2, 2, 6, 2),
            num_heads=(3, 6, 12, 24),
            window_size=7,
            drop_path_rate=0.2,
            init_cfg=dict(
                type='Pretrained',
                checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/'
                'swin_tiny_patch4_window7_224_20220317-1cdeb081.pth'))),
    decode_head=dict(in_channels=(192, 384, 768, 1536)))

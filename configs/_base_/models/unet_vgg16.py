# U-Net's decoder on IFN's encoder: VGG16, frozen, both dates in one pass
_base_ = 'ifn.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='ifn_plugin.UNetHead',
        num_classes=2,
        out_channels=1,
        dropout_ratio=0,
        threshold=0.5,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True)))

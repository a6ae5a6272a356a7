# IFN trained from random weights, encoder included; BCE and Dice at every level
_base_ = 'ifn.py'
model = dict(
    # checkpoint=None leaves the weights random; init_cfg=None could not be overridden by init_cfg.checkpoint=FILE
    backbone=dict(frozen=False, init_cfg=dict(checkpoint=None)),
    decode_head=dict(
        loss_decode=[
            dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
            dict(type='mmseg.DiceLoss', use_sigmoid=True),
        ],
        threshold=0.5))

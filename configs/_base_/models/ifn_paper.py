# IFN with the paper's dropout and losses: BCE and Dice at every level, the label downsampled to each level's size
_base_ = 'ifn.py'
model = dict(
    decode_head=dict(
        dropout_ratio=0.6,
        loss_decode=[
            dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
            dict(type='mmseg.DiceLoss', use_sigmoid=True),
        ],
        downsample_label=True,
        threshold=0.5))

# What IFNHead has in the paper: dropout, BCE and Dice at every level, the label brought down to each level's size
paper_head = dict(
    dropout_ratio=0.6,
    loss_decode=[
        dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
        dict(type='mmseg.DiceLoss', use_sigmoid=True),
    ],
    downsample_label=True,
    threshold=0.5)

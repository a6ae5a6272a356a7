# A reality check for change detectors: mmseg's plain U-Net, which sees both dates as one image of six channels.
_base_ = '../ifn_mmseg/ifn_mmseg_256x256_40k_levircd.py'
model = dict(
    type='mmseg.EncoderDecoder',
    backbone=dict(
        _delete_=True,
        type='mmseg.UNet',
        in_channels=6,
        base_channels=32,
        num_stages=5,
        strides=(1, 1, 1, 1, 1),
        enc_num_convs=(2, 2, 2, 2, 2),
        dec_num_convs=(2, 2, 2, 2),
        downsamples=(True, True, True, True),
        enc_dilations=(1, 1, 1, 1, 1),
        dec_dilations=(1, 1, 1, 1),
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
        upsample_cfg=dict(type='mmseg.InterpConv')),
    decode_head=dict(
        _delete_=True,
        type='mmseg.FCNHead',
        in_channels=32,
        in_index=4,
        channels=32,
        num_convs=0,
        concat_input=False,
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True)))

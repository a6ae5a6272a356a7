# IFN: Zhang et al. 2020, https://doi.org/10.1016/j.isprsjprs.2020.06.003
data_preprocessor = dict(
    type='ifn_plugin.PairDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size_divisor=16,
    pad_val=0,
    seg_pad_val=255)
model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ifn_plugin.IFN',
        frozen=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://vgg16')),
    decode_head=dict(
        type='ifn_plugin.IFNHead',
        # avg_non_ignore=False and 0.3 are mmseg's defaults, with which open-cd's LEVIR-CD result was obtained
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=False),
        threshold=0.3),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))

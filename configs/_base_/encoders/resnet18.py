# ResNet-18 with a stem of three convolutions, from mmseg: strides 4, 8, 16, 32
encoder = dict(
    type='mmseg.ResNetV1c',
    depth=18,
    norm_cfg=dict(type='BN'),
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet18_v1c'))
pair_channels = (128, 256, 512, 1024)

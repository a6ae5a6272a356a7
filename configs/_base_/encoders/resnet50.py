# ResNet-50 with a stem of three convolutions, from mmseg: strides 4, 8, 16, 32
encoder = dict(
    type='mmseg.ResNetV1c',
    depth=50,
    norm_cfg=dict(type='BN'),
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c'))
pair_channels = (512, 1024, 2048, 4096)

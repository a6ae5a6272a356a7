# The recipe of ifn_256x256_40k_levircd.py with more weight on the fine levels, an exponential moving average of the
# weights, and a threshold of 0.5: see docs/ablation.md
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
model = dict(decode_head=dict(loss_weights=(0.2, 0.4, 0.6, 0.8, 1.0), threshold=0.5))
# averages over a twelfth of the schedule, as in the runs on which it was selected
custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.0003, update_buffers=True)]

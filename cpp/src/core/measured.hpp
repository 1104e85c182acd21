// What was measured on devices that cutplan knows: the lowest layer of the tuning table, which corrects the
// cost model there. Written by `python -m cutplan tune --export`: docs/tuning.md says how.
#pragma once

namespace cutplan {

inline constexpr char measured_table[] = R"table(cutplan-tuning	1
device	NVIDIA H200	90	13000	0.1.0
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k10	15936	18048
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=128 dim_v=128 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k8	16096	18016
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k12	15648	18816
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k12	16000	19136
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=16384 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k20	41088	42304
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=16384 dim=128 dim_v=128 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d192.64x64.s3.k24	41280	42592
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=16384 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k32	34112	34656
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=16384 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k32	33536	34400
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k8	18208	19424
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=128 dim_v=128 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k10	18272	19328
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k12	17792	23616
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k12	17536	23776
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=32768 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k24	58624	59968
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=32768 dim=128 dim_v=128 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k24	59040	60352
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=32768 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k32	46368	47392
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=32768 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k32	46496	47616
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k16	20352	24544
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k16	20704	24576
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k20	29408	31520
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=128 dim_v=128 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k20	29504	31456
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k16	24704	27584
fmha batch=1 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k16	25024	27680
fmha batch=1 heads=32 heads_k=8 seq_q=2048 seq_k=2048 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 causal=bottom_right sm_count=132	fmha.sm80.bf16.d128.128x64.s3	122048	124576
fmha batch=1 heads=32 heads_k=8 seq_q=2048 seq_k=2048 dim=128 dim_v=128 dtype=float16 o=float16 causal=bottom_right sm_count=132	fmha.sm80.f16.d128.128x64.s3	122368	125280
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d192.64x64.s3.k2	34816	35424
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=128 dim_v=128 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d192.64x64.s3.k2	34848	35584
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k2	26624	27744
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k2	26432	27456
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=16384 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k2	165184	167488
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k2	39584	41280
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k2	39648	40864
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k2	58912	60096
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k2	58720	59968
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k2	94304	95328
fmha batch=16 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k2	94336	95936
fmha batch=16 heads=32 heads_k=8 seq_q=1024 seq_k=1024 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 causal=bottom_right sm_count=132	fmha.sm80.bf16.d128.128x64.s3	505024	514848
fmha batch=16 heads=32 heads_k=8 seq_q=1024 seq_k=1024 dim=128 dim_v=128 dtype=float16 o=float16 causal=bottom_right sm_count=132	fmha.sm80.f16.d128.128x64.s3	503520	515232
fmha batch=16 heads=32 heads_k=8 seq_q=512 seq_k=512 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 causal=bottom_right sm_count=132	fmha.sm80.bf16.d128.128x64.s3	179456	184704
fmha batch=16 heads=32 heads_k=8 seq_q=512 seq_k=512 dim=128 dim_v=128 dtype=float16 o=float16 causal=bottom_right sm_count=132	fmha.sm80.f16.d128.128x64.s3	180000	187168
fmha batch=32 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4	35552	37504
fmha batch=32 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4	35360	37728
fmha batch=32 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4	54880	56608
fmha batch=32 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4	54912	56864
fmha batch=32 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4	89888	92160
fmha batch=32 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4	90048	92960
fmha batch=32 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4	159904	163456
fmha batch=32 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4	160608	164448
fmha batch=4 heads=32 heads_k=8 seq_q=1024 seq_k=1024 dim=128 dim_v=128 dtype=bfloat16 o=bfloat16 causal=bottom_right sm_count=132	fmha.sm80.bf16.d128.128x64.s3	135776	138752
fmha batch=4 heads=32 heads_k=8 seq_q=1024 seq_k=1024 dim=128 dim_v=128 dtype=float16 o=float16 causal=bottom_right sm_count=132	fmha.sm80.f16.d128.128x64.s3	137120	139104
fmha batch=64 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4	59232	63360
fmha batch=64 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4	59232	63680
fmha batch=64 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4	95168	99904
fmha batch=64 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4	95232	100160
fmha batch=64 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4	165152	169408
fmha batch=64 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4	165408	170080
fmha batch=64 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4	306112	310912
fmha batch=64 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4	306496	312096
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k4	20000	21024
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=1024 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k4	19808	20928
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k4	27104	27872
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=2048 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k4	26816	27712
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=32768 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k4	165248	167488
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k4	40064	40960
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=4096 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k4	40000	40896
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=bfloat16 o=bfloat16 sm_count=132	fmha.sm80.bf16.d128.64x64.s4.k4	59232	60000
fmha batch=8 heads=32 heads_k=8 seq_q=1 seq_k=8192 dim=64 dim_v=64 dtype=float16 o=float16 sm_count=132	fmha.sm80.f16.d128.64x64.s4.k4	59072	59872
gemm m=1 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	68288	68288
gemm m=1 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	66048	66048
gemm m=1 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	67968	67968
gemm m=1 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	66144	66144
gemm m=1 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	126656	126656
gemm m=1 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	124320	124320
gemm m=1 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	127360	127360
gemm m=1 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	125568	125568
gemm m=1 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	16608	16672
gemm m=1 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	15872	17536
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	16448	16448
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	15872	16608
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	16448	16448
gemm m=1 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k3	24960	25024
gemm m=1 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	26976	26976
gemm m=1 n=4096 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	41184	41184
gemm m=1 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k2	24992	24992
gemm m=1 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16.k2	25152	25152
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k3	25056	25184
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16.k2	24480	24480
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	25216	25216
gemm m=1 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k3	42240	42336
gemm m=1 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	46112	46112
gemm m=1 n=4096 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	74944	74944
gemm m=1 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k2	25248	25408
gemm m=1 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	24000	24000
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	25280	25280
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	24160	24160
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24544	24544
gemm m=1 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	41600	41600
gemm m=1 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	44704	44704
gemm m=1 n=8192 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	73792	73792
gemm m=1 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	41344	41344
gemm m=1 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	40288	40288
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	41696	41696
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	39936	39936
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	40992	40992
gemm m=1 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	74464	74464
gemm m=1 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	76928	76928
gemm m=1 n=8192 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm80.f64.rcr.16x32x64.s4.multistage.a8	135456	138080
gemm m=128 n=4096 k=14336 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16	67872	71840
gemm m=128 n=4096 k=14336 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	67744	72480
gemm m=128 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16	52896	58560
gemm m=128 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	52672	60128
gemm m=16 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	67584	67584
gemm m=16 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	66624	66624
gemm m=16 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	68096	68096
gemm m=16 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	66304	66304
gemm m=16 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	125632	125632
gemm m=16 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	125504	125504
gemm m=16 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	126144	126144
gemm m=16 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	124192	124192
gemm m=16 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16.k2	16416	16608
gemm m=16 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	15936	16608
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16.k2	16480	16608
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	15968	16704
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16.k2	16544	16672
gemm m=16 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	25280	27200
gemm m=16 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	27360	27360
gemm m=16 n=4096 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	41440	41440
gemm m=16 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k2	25216	25216
gemm m=16 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.32x64x64.s8.swap_ab.a16.k2	24704	25472
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	25280	25280
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.32x64x64.s8.swap_ab.a16.k2	25088	25376
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16.k2	25664	25920
gemm m=16 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	42400	47264
gemm m=16 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	46720	46720
gemm m=16 n=4096 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	75616	75616
gemm m=16 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	24672	24672
gemm m=16 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	23456	23456
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24928	24928
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	23456	23456
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24832	24832
gemm m=16 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	42144	42144
gemm m=16 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	43616	43616
gemm m=16 n=8192 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	73792	73792
gemm m=16 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	41568	42272
gemm m=16 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	40096	40096
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	41536	41568
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.32x64x64.s8.swap_ab.a16	40064	40832
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	41312	41312
gemm m=16 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	74272	74272
gemm m=16 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	78688	78688
gemm m=16 n=8192 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a8	138752	140608
gemm m=192 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.64x256x64.s5.pingpong.a16	73888	81248
gemm m=192 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.64x256x64.s5.pingpong.a16	73216	82432
gemm m=24 n=4096 k=14336 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	44320	47392
gemm m=24 n=4096 k=14336 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	44224	46528
gemm m=24 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	17920	21120
gemm m=24 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	17984	20576
gemm m=256 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16	95008	96992
gemm m=256 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16	93888	95392
gemm m=256 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16	99680	100128
gemm m=256 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16	98048	99104
gemm m=256 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	174720	174720
gemm m=256 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	173664	173664
gemm m=256 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	187520	187520
gemm m=256 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	182048	182048
gemm m=256 n=4096 k=14336 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16	78816	82944
gemm m=256 n=4096 k=14336 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	79456	82560
gemm m=256 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16	30240	31296
gemm m=256 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16	29376	31712
gemm m=256 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	30048	30624
gemm m=256 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16	29760	31520
gemm m=256 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	43008	43712
gemm m=256 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	42464	44000
gemm m=256 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	43552	44000
gemm m=256 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	42304	43936
gemm m=256 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16	38048	38048
gemm m=256 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	39424	39776
gemm m=256 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	37696	37696
gemm m=256 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x128x64.s6.pingpong.a16	39712	39712
gemm m=256 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	60544	60544
gemm m=256 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	58976	58976
gemm m=256 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	60832	60832
gemm m=256 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	60160	60160
gemm m=32 n=4096 k=14336 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	44608	46752
gemm m=32 n=4096 k=14336 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	44608	47232
gemm m=32 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	18048	21088
gemm m=32 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	18144	20896
gemm m=4096 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.128x256x32.s4.c2x1.cooperative.a16	337536	341024
gemm m=4096 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.128x128x32.s3.multistage.a16	2379424	2379424
gemm m=64 n=14336 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr gate=interleaved alignment=16 sm_count=132 activation=silu	gemm.sm90.bf16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	72576	72576
gemm m=64 n=14336 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr gate=separate alignment=16 sm_count=132 activation=silu	gemm.sm90.bf16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73184	73184
gemm m=64 n=14336 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr gate=interleaved alignment=16 sm_count=132 activation=silu	gemm.sm90.f16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73184	73184
gemm m=64 n=14336 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr gate=separate alignment=16 sm_count=132 activation=silu	gemm.sm90.f16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	72704	72704
gemm m=64 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16	69824	72160
gemm m=64 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16	67936	69632
gemm m=64 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	69792	72128
gemm m=64 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16	67616	69152
gemm m=64 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16	129056	130016
gemm m=64 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x256x64.s5.pingpong.a16	127744	127744
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	129376	129760
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	128928	131392
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x256x64.s5.pingpong.a16	126880	126880
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x256x64.s5.pingpong.a16	131840	131840
gemm m=64 n=28672 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.64x256x32.s5.pingpong.a16	244896	244896
gemm m=64 n=28672 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.64x64x32.s4.multistage.a16.k2	589920	598848
gemm m=64 n=28672 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.64x64x16.s6.multistage.a16.k2	631488	635552
gemm m=64 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	19872	23584
gemm m=64 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	18784	23296
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	19328	22272
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	18752	22944
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	18816	22304
gemm m=64 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	28704	37120
gemm m=64 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	28320	39808
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	28992	37664
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	28608	39232
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	28736	37760
gemm m=64 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	26080	26080
gemm m=64 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	26624	26624
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	26016	26016
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	26720	26720
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	26336	26336
gemm m=64 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	44704	44704
gemm m=64 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	44192	44192
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	44320	44320
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	43840	43840
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	44192	44192
gemm m=80 n=4096 k=14336 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	62848	75648
gemm m=80 n=4096 k=14336 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	64512	76736
gemm m=80 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	23648	28224
gemm m=80 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	23680	28288
gemm m=80 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16	55232	82784
gemm m=80 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	55136	82880
gemm m=96 n=4096 k=14336 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	60448	70880
gemm m=96 n=4096 k=14336 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	60256	70528
gemm m=96 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	23392	28416
gemm m=96 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	23488	28288
gemm m=96 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16	52480	76192
gemm m=96 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132 batch_invariant	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	52320	78048
end	237
)table";

}  // namespace cutplan

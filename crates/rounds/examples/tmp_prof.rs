
use rounds::*; use record::Digest; use study::*; use privacy::*;
fn clock()->u64{ std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split_whitespace().next().unwrap().parse().unwrap()}
fn t<T>(n:&str,f:impl FnOnce()->T)->T{let a=clock();let r=f();println!("{n}: {:.2} ms",(clock()-a) as f64/1e6);r}
fn main(){
 let names=|l:&str|->Vec<String>{l.split_whitespace().map(str::to_owned).collect()};
 let cell = |i| Cell { name: format!("entry {i}"), lo: 0, shift: 0, bits: 32 };
 let ctx = RoundContext{federation: Digest::of(b"c"),study:"b".into(),run:1,stage:0,round:0,contributors:names("a b c"),aggregators:names("x y"),collector:"z".into(),replayed:false,plan:Digest::of(b"p"),question:Digest::of(b"q"),layout:Layout{cells:(0..1000).map(cell).collect()}};
 for _ in 0..2 {
 t("ctx.digest",||ctx.digest().unwrap());
 t("layout_digest",||layout_digest(&ctx.layout).unwrap());
 let (s,p)=t("keygen",||{let s=KemSecret::generate();let p=s.public();(s,p)});
 let (s2,p2)=(KemSecret::generate(),0); let _=p2;
 let keys=vec![("x".to_string(),p.clone()),("y".to_string(),s2.public())];
 let vals:Vec<f64>=(0..1000).map(|x|x as f64).collect();
 let rules=LocalRules{rows_read:1,max_rows:10,..Default::default()};
 let c=t("check",||Contribution::check(&ctx.layout,&vals,ctx.plan,&rules).unwrap());
 let sealed=t("contribute",||contribute(&ctx,"a",c,&keys).unwrap());
 let mut a=t("agg new",||Aggregator::new(ctx.clone(),"x",s.clone(),&[("y".into(),s2.public())]).unwrap());
 let mut b=Aggregator::new(ctx.clone(),"y",s2.clone(),&[("x".into(),s.public())]).unwrap();
 let k=b.begin().unwrap();
 t("on_contribution wait",||a.on_contribution("a",sealed[0].bytes()).unwrap());
 t("key + verify_init",||a.on_message("y",&k[0].bytes).unwrap());
 t("helper on_contribution",||b.on_contribution("a",sealed[1].bytes()).unwrap());
 let big=vec![1u8;526000];
 t("sha",||Digest::of(&big));
 t("zeroizing copy",||zeroize::Zeroizing::new(big.clone()));
 }
}

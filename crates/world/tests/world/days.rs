use world::run;

#[test]
fn one_day() {
    let report = run(1).unwrap();
    println!("{}", report.trace);
    println!("{:?} {:?} {:?}", report.broken, report.fates, report.counts);
    assert_eq!(report.broken, None);
}

//! Prints the times of the gallery search: `cargo bench --bench search`.

#![allow(clippy::print_stdout)]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("synthetic templates, one thread, two best subjects, milliseconds");
    println!("templates  values  fastest  median     p99  in f32  bytes per template");
    for (templates, dimensions, rounds) in [
        (1_000, 128, 2_000),
        (10_000, 128, 2_000),
        (100_000, 128, 500),
        (100_000, 192, 200),
        (100_000, 512, 100),
    ] {
        let t = limen::bench::search::bench_search(templates, dimensions, rounds)?;
        let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
        println!(
            "{:9}  {:6}  {:7.3}  {:6.3}  {:6.3}  {:6}  {:6}",
            t.templates,
            t.dimensions,
            ms(t.fastest),
            ms(t.median),
            ms(t.p99),
            t.compared_exactly,
            t.bytes_per_template
        );
    }
    Ok(())
}

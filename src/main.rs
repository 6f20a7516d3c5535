//! limen
fn main(){}

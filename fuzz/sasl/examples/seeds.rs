//! Writes what the fuzzer starts from: a login by each mechanism, and the forms that clients in the field send.

use std::fs;

const SCRAM: [(&str, &str); 5] = [
    ("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=rOprNGfwEbeRWgbNEkqOserver,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
    ("n,a=user,n=user,r=x", "c=bixhPXVzZXIs,r=xserver,p=AAAA"),
    // librdkafka before 2.6.1 sends its own nonce twice.
    ("n,,n=user,r=x", "c=biws,r=xxserver,p=AAAA"),
    ("n,,n=us=2Cer=3D,r=x,tokenauth=true", "c=biws,r=xserver,ext=1,p=AAAA"),
    ("p=tls-unique,,n=user,r=x", ""),
];

fn main() -> std::io::Result<()> {
    fs::create_dir_all("corpus/sasl")?;
    let mut seeds: Vec<(u8, String, &str)> = Vec::new();
    for (first, second) in SCRAM {
        seeds.extend([(0, first.to_owned(), second), (1, first.to_owned(), second)]);
    }
    seeds.push((2, "\0user\0password".into(), ""));
    seeds.push((2, "user\0user\0password".into(), ""));
    seeds.push((3, "n,,\x01auth=Bearer e30.e30.AAAA\x01\x01".into(), ""));
    seeds.push((3, "n,a=user,\x01host=h\x01port=1\x01auth=Bearer e30.e30.AAAA\x01\x01".into(), "\x01"));
    for (at, (mechanism, first, second)) in seeds.into_iter().enumerate() {
        let seed = [&[mechanism][..], first.as_bytes(), &[255], second.as_bytes()].concat();
        fs::write(format!("corpus/sasl/{at}"), seed)?;
    }
    Ok(())
}

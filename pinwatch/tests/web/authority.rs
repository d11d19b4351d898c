//! A certificate authority for these tests. Keys and certificates are generated at each run.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A self-signed authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        Self(issuer.expect("signs itself"))
    }

    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A signed certificate, with its key, for a server or client of this name.
    pub fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        Identity {
            certificate: params.signed_by(&key, &self.0).expect("signs").pem(),
            key: key.serialize_pem(),
        }
    }
}

//! `/healthz`, `/livez`, `/readyz`, in the words of `k8s.io/apiserver/pkg/server/healthz`.

use std::{fmt, fmt::Write as _, sync::Arc};

use http::StatusCode;

use crate::{path::Probe, query::Parameters};

/// Most unknown names that are answered about: anyone may ask, and a question may name thousands.
const MAX_WARNINGS: usize = 8;

/// Something that has to be true for the server to live or to be ready.
#[derive(Clone)]
pub struct Check {
    name: String,
    readiness_only: bool,
    probe: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    /// Must hold for the process to be left alive: `livez`, `healthz` and `readyz` ask for it. It must be quick.
    pub fn live(name: impl Into<String>, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), readiness_only: false, probe: Arc::new(probe) }
    }

    /// Must hold for the server to be asked: only `readyz` asks for it. It must be quick.
    pub fn ready(name: impl Into<String>, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), readiness_only: true, probe: Arc::new(probe) }
    }

    fn concerns(&self, probe: Probe) -> bool {
        probe == Probe::Ready || !self.readiness_only
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("readiness_only", &self.readiness_only)
            .finish_non_exhaustive()
    }
}

/// Answers a health path; `None` if it names a check that does not exist. Why a check fails stands in the log only: anyone
/// may ask here.
pub(crate) fn answer(
    checks: &[Check],
    probe: Probe,
    only: Option<&str>,
    parameters: &Parameters<'_>,
) -> Option<(StatusCode, String)> {
    let ping = Check::live("ping", || Ok(()));
    let concerned = || std::iter::once(&ping).chain(checks.iter().filter(|check| check.concerns(probe)));
    if let Some(only) = only {
        let check = concerned().find(|check| check.name == only)?;
        return Some(match run(check, probe) {
            Ok(()) => (StatusCode::OK, "ok".to_owned()),
            Err(()) => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error: reason withheld\n".to_owned()),
        });
    }
    let mut lines = String::new();
    let mut failed = false;
    for check in concerned() {
        let name = &check.name;
        let written = if parameters.all("exclude").any(|excluded| excluded == name) {
            writeln!(lines, "[+]{name} excluded: ok")
        } else if run(check, probe).is_ok() {
            writeln!(lines, "[+]{name} ok")
        } else {
            failed = true;
            writeln!(lines, "[-]{name} failed: reason withheld")
        };
        written.unwrap_or_default(); // into a string
    }
    let unknown = parameters.all("exclude").filter(|excluded| concerned().all(|check| check.name != *excluded));
    for excluded in unknown.take(MAX_WARNINGS) {
        // Into a string.
        writeln!(lines, "warn: some health checks cannot be excluded: no matches for {excluded:?}").unwrap_or_default();
    }
    let name = probe.name();
    Some(if failed {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{name} check failed\n"))
    } else if parameters.get("verbose").is_some() {
        (StatusCode::OK, format!("{lines}{name} check passed\n"))
    } else {
        (StatusCode::OK, "ok".to_owned())
    })
}

fn run(check: &Check, probe: Probe) -> Result<(), ()> {
    (check.probe)().map_err(|reason| {
        tracing::warn!(check = check.name, endpoint = probe.name(), reason, "a health check fails");
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{Check, answer};
    use crate::{path::Probe, query::Parameters};

    fn ask(probe: Probe, only: Option<&str>, query: &str) -> Option<(u16, String)> {
        let checks = [Check::live("loop", || Ok(())), Check::ready("data", || Err("secret cause".to_owned()))];
        let (code, body) = answer(&checks, probe, only, &Parameters::parse(query))?;
        Some((code.as_u16(), body))
    }

    #[test]
    fn each_endpoint_runs_its_own_checks() {
        let ok = |body: &str| Some((StatusCode::OK.as_u16(), body.to_owned()));
        let bad = |body: &str| Some((500, body.to_owned()));
        for (probe, only, query, expected) in [
            (Probe::Live, None, "", ok("ok")),
            (Probe::Health, None, "", ok("ok")),
            (Probe::Live, None, "verbose", ok("[+]ping ok\n[+]loop ok\nlivez check passed\n")),
            (
                Probe::Ready,
                None,
                "",
                bad("[+]ping ok\n[+]loop ok\n[-]data failed: reason withheld\nreadyz check failed\n"),
            ),
            (Probe::Ready, None, "exclude=data", ok("ok")),
            (
                Probe::Ready,
                None,
                "verbose=1&exclude=data&exclude=loop",
                ok("[+]ping ok\n[+]loop excluded: ok\n[+]data excluded: ok\nreadyz check passed\n"),
            ),
            (
                Probe::Live,
                None,
                "verbose&exclude=x",
                ok(
                    "[+]ping ok\n[+]loop ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nlivez check passed\n",
                ),
            ),
            (Probe::Ready, Some("ping"), "", ok("ok")),
            (Probe::Ready, Some("data"), "", bad("internal server error: reason withheld\n")),
            (Probe::Live, Some("data"), "", None),
            (Probe::Ready, Some("none"), "", None),
        ] {
            assert_eq!(ask(probe, only, query), expected, "{probe:?} {only:?} {query}");
        }
    }
}

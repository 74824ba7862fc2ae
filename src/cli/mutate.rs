//! `mutate`, `append`, `flatten` and `rebase`.

use std::collections::BTreeMap;

use serde_json::json;

use crate::operations::{
    self, AppendRequest, BaseCheck, Changes, Error, Kind, LayerSource, MediaFamily, RebaseRequest,
};

use super::Context;
use super::args::{AppendArgs, ConversionArgs, FlattenArgs, MutateArgs, RebaseArgs};
use super::build::reference;
use super::edit::{interruptible, platform, report, time};
use super::output::{Format, from_template, print};

/// Changes configs, manifests and formats.
pub(super) async fn mutate(context: &Context, args: MutateArgs) -> Result<(), Error> {
    let changes = changes(&args)?;
    let mut target = args.edit.target(Some(&args.image))?;
    if let Some(repository) = &args.repo {
        let reference = reference(repository)?;
        target.repository = Some(reference.repository);
    }
    let done =
        interruptible(Box::pin(operations::mutate(&context.session, &target, &changes))).await?;
    report(context, &done, &args.edit.manner)
}

fn changes(args: &MutateArgs) -> Result<Changes, Error> {
    let ports = |flag: &str, texts: &[String]| -> Result<Vec<String>, Error> {
        let ports = texts.iter().map(|text| {
            operations::exposed_ports(text).map_err(|reason| {
                Error::new(Kind::Settings, format!("invalid `{flag} {text}`: {reason}"))
            })
        });
        Ok(ports.collect::<Result<Vec<_>, _>>()?.concat())
    };
    if let Some(directory) = args.workdir.as_deref().filter(|dir| !dir.is_empty())
        && !directory.starts_with('/')
    {
        let message = format!("invalid `--workdir {directory}`: it is not absolute");
        return Err(Error::new(Kind::Settings, message).hint(format!("write `/{directory}`")));
    }
    let set_platform = args.set_platform.as_deref();
    let Changes { family, compression, .. } = args.conversion.changes()?;
    Ok(Changes {
        labels: pairs("--label", &args.labels)?.into_iter().collect::<BTreeMap<_, _>>(),
        unset_labels: args.unset_labels.clone(),
        env: pairs("--env", &args.env)?,
        unset_env: args.unset_env.clone(),
        entrypoint: words("--entrypoint", args.entrypoint.as_deref())?,
        cmd: words("--cmd", args.cmd.as_deref())?,
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        ports: ports("--exposed-ports", &args.exposed_ports)?,
        unset_ports: ports("--unset-port", &args.unset_ports)?,
        volumes: args.volumes.clone(),
        unset_volumes: args.unset_volumes.clone(),
        annotations: operations::annotations(&args.annotations)?,
        unset_annotations: args.unset_annotations.clone(),
        platform: set_platform.map(|text| platform("--set-platform", text)).transpose()?,
        time: time(args.time.as_deref())?,
        rewrites_layers: args.rewrite_timestamp,
        compression,
        family,
    })
}

impl ConversionArgs {
    /// Returns whether nothing is to be converted.
    pub(super) fn is_empty(&self) -> bool {
        !self.to_oci && !self.to_docker && self.compression.is_none()
    }

    /// Returns what is to be converted.
    pub(super) fn changes(&self) -> Result<Changes, Error> {
        let family = match (self.to_oci, self.to_docker) {
            (true, _) => Some(MediaFamily::Oci),
            (false, true) => Some(MediaFamily::Docker),
            (false, false) => None,
        };
        let level = self.compression_level.as_deref();
        let named = self.compression.as_deref();
        let compression = named.map(|name| operations::compression(Some(name), level));
        Ok(Changes { family, compression: compression.transpose()?, ..Changes::default() })
    }
}

fn pairs(flag: &str, texts: &[String]) -> Result<Vec<(String, String)>, Error> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::new(Kind::Settings, format!("invalid `{flag} {text}`"))
            .hint(format!("write `{flag} KEY=VALUE`"))),
    };
    texts.iter().map(pair).collect()
}

/// Reads words with commas between, or a JSON list; empty for none.
fn words(flag: &str, text: Option<&str>) -> Result<Option<Vec<String>>, Error> {
    let Some(text) = text else { return Ok(None) };
    if text.trim_start().starts_with('[') {
        let list = serde_json::from_str(text).map_err(|error| {
            Error::new(
                Kind::Settings,
                format!("invalid `{flag} {text}`: it is no JSON list of texts"),
            )
            .because(error)
        });
        return list.map(Some);
    }
    let words = text.split(',').filter(|_| !text.is_empty());
    Ok(Some(words.map(ToOwned::to_owned).collect()))
}

/// Puts layers on an image.
pub(super) async fn append(context: &Context, args: AppendArgs) -> Result<(), Error> {
    let layers: Vec<LayerSource> = args
        .layers
        .iter()
        .chain(&args.more)
        .map(|path| {
            let is_stdin = path.as_os_str() == "-";
            if is_stdin { LayerSource::Stdin } else { LayerSource::File(path.clone()) }
        })
        .collect();
    if layers.is_empty() {
        let error = Error::new(Kind::Settings, "no layer to append");
        return Err(error.hint("name a tar: `rpub append -b BASE -t NAME -f layer.tar`"));
    }
    if layers.iter().filter(|layer| **layer == LayerSource::Stdin).count() > 1 {
        return Err(Error::new(Kind::Settings, "standard input can be one layer only"));
    }
    let target = args.edit.target(args.base.as_deref())?;
    if target.names.is_empty() && !target.is_dry_run {
        let error = Error::new(Kind::Settings, "the result has no name");
        return Err(error.hint("name it by `-t NAME[:TAG]`"));
    }
    let request = AppendRequest {
        layers,
        annotates_base: args.set_base_image_annotations,
        time: time(args.time.as_deref())?,
    };
    let done =
        interruptible(Box::pin(operations::append(&context.session, &target, &request))).await?;
    report(context, &done, &args.edit.manner)
}

/// Makes one layer of all.
pub(super) async fn flatten(context: &Context, args: FlattenArgs) -> Result<(), Error> {
    let target = args.edit.target(Some(&args.image))?;
    let time = time(args.time.as_deref())?;
    let done =
        interruptible(Box::pin(operations::flatten(&context.session, &target, time))).await?;
    report(context, &done, &args.edit.manner)
}

/// Puts another base below an image, or says whether it should have one.
pub(super) async fn rebase(context: &Context, args: RebaseArgs) -> Result<(), Error> {
    let target = args.edit.target(Some(&args.image))?;
    let request = RebaseRequest {
        old_base: args.old_base.as_deref().map(reference).transpose()?,
        new_base: args.new_base.as_deref().map(reference).transpose()?,
    };
    if !args.check {
        let done = interruptible(Box::pin(operations::rebase(&context.session, &target, &request)))
            .await?;
        return report(context, &done, &args.edit.manner);
    }
    let checks = operations::check_base(&context.session, &target, &request);
    let checks = interruptible(Box::pin(checks)).await?;
    context.progress.finish();
    let values = checks.iter().map(|check| {
        json!({
            "platform": check.platform.as_ref().map(ToString::to_string),
            "base": check.base.familiar(),
            "madeOf": check.made_of,
            "current": check.current,
            "outdated": check.is_outdated,
        })
    });
    let values: Vec<_> = values.collect();
    match args.edit.manner.format.format() {
        Format::Table => checks.iter().try_for_each(|check| print(&sentence(check)))?,
        Format::Json => values.iter().try_for_each(|value| print(&value.to_string()))?,
        Format::Template(template) => {
            values.iter().try_for_each(|value| print(&from_template(&template, value)?))?;
        }
    }
    if checks.iter().any(|check| check.is_outdated) {
        return Err(Error::new(Kind::Reported, "the base has moved on"));
    }
    Ok(())
}

fn sentence(check: &BaseCheck) -> String {
    let platform = check.platform.as_ref().map(|platform| format!("{platform}: "));
    let (platform, base) = (platform.unwrap_or_default(), check.base.familiar());
    if !check.is_outdated {
        return format!("{platform}the base {base} is up to date ({})", check.current);
    }
    match &check.made_of {
        Some(digest) => {
            format!("{platform}the base {base} has moved on from {digest} to {}", check.current)
        }
        None => format!("{platform}the base {base} is now {}, another one", check.current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lists_in_json_or_with_commas() {
        let read = |text: &str| words("--cmd", Some(text)).expect("valid").expect("given");
        assert_eq!(read("/bin/sh,-c"), ["/bin/sh", "-c"]);
        assert_eq!(read(r#"["a,b", "c"]"#), ["a,b", "c"]);
        assert_eq!(read(""), Vec::<String>::new());
        assert!(words("--cmd", Some("[1]")).is_err());
        assert_eq!(words("--cmd", None).expect("valid"), None);
    }
}

//! Which outputs a build has, from all flags that concern them.

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::Access;

use crate::build::{AnnotationPlace, Form, NewLayers};
use crate::image::Reference;
use crate::layer::Times;
use crate::operations::build::request::BuildRequest;
use crate::operations::{Error, Kind};

use super::spec::{
    Destination, Dialect, ImageOutput, Keep, Output, OutputKind, Publish, Timestamps,
};

/// The outputs of one build, in their order.
#[derive(Debug, Clone)]
pub(in crate::operations::build) struct Outputs(pub(in crate::operations::build) Vec<Choice>);

/// One output with everything decided.
#[derive(Debug, Clone)]
pub(in crate::operations::build) struct Choice {
    pub(in crate::operations::build) kind: OutputKind,
    /// The image's names, with tags.
    pub(in crate::operations::build) names: Vec<Reference>,
    pub(in crate::operations::build) form: Form,
    /// What happens to the times of files that are written out.
    pub(in crate::operations::build) times: Times,
    options: super::spec::ImageOptions,
}

impl Outputs {
    /// Joins `-o`, `--push`, `--load`, `-t` and `--annotation` as buildx does, and refuses what
    /// cannot be written before anything is built.
    pub(in crate::operations::build) fn of(request: &BuildRequest) -> Result<Self, Error> {
        let mut outputs = request.delivery.outputs.clone();
        if request.delivery.push {
            push(&mut outputs);
        }
        if request.delivery.load || outputs.is_empty() {
            load(&mut outputs);
        }
        if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
            let message = "only one output can go to standard output";
            return Err(Error::new(Kind::Settings, message).hint("give the others a `dest=FILE`"));
        }
        let choices = outputs.into_iter().map(|output| {
            check(&output, request)?;
            choice(output, request)
        });
        Ok(Self(choices.collect::<Result<_, Error>>()?))
    }

    /// Gives every form the date that the build has, `epoch` in seconds since 1970.
    pub(in crate::operations::build) fn date(
        &mut self,
        epoch: Option<i64>,
        request: &BuildRequest,
    ) -> Result<(), Error> {
        let epoch = match (epoch, request.reproducible) {
            (None, true) => Some(0),
            (epoch, _) => epoch,
        };
        let is_future = epoch.is_some_and(|epoch| epoch > jiff::Timestamp::now().as_second());
        if request.reproducible && is_future {
            let message = "`--reproducible` needs a SOURCE_DATE_EPOCH that has passed";
            return Err(Error::new(Kind::Settings, message));
        }
        for choice in &mut self.0 {
            choice.form.epoch = epoch;
            choice.form.times = match (epoch, choice.options.timestamps) {
                (Some(epoch), _) if request.reproducible => Times::Set(epoch),
                (Some(epoch), Timestamps::Rewrite) => Times::Clamp(epoch),
                (_, Timestamps::Keep | Timestamps::Rewrite) => Times::Keep,
            };
            choice.times = epoch.map_or(Times::Keep, Times::Set);
        }
        Ok(())
    }

    /// Refuses what does not go with the number of platforms that the build is for.
    pub(in crate::operations::build) fn suit(&self, platforms: usize) -> Result<(), Error> {
        for choice in &self.0 {
            let dialect = match &choice.kind {
                OutputKind::Archive { dialect, .. } | OutputKind::Layout { dialect, .. } => dialect,
                _ => &Dialect::Oci,
            };
            if platforms > 1 && *dialect == Dialect::Docker {
                let message = "docker exporter does not currently support exporting manifest lists";
                return Err(Error::new(Kind::Settings, message)
                    .hint("use `type=oci`, or build one platform at a time"));
            }
            // A single image has no index that could take a note.
            let places = [
                (AnnotationPlace::Index, "index"),
                (AnnotationPlace::IndexDescriptor, "index descriptor"),
            ];
            let has_note = |place: &&(AnnotationPlace, &str)| {
                choice.is_image() && choice.form.annotations.any_for(place.0)
            };
            if platforms == 1
                && let Some((_, name)) = places.iter().find(has_note)
            {
                let message =
                    format!("{name} annotations not supported for single platform export");
                return Err(Error::new(Kind::Settings, message)
                    .hint("annotate the manifest: `--annotation manifest:KEY=VALUE`"));
            }
        }
        Ok(())
    }

    /// Returns the output whose layers are made while the build runs: one that publishes them, else
    /// the first image.
    pub(in crate::operations::build) fn primary(&self) -> Option<&Choice> {
        let publishing = self.0.iter().find(|choice| choice.publishes());
        publishing.or_else(|| self.0.iter().find(|choice| choice.is_image()))
    }
}

impl Choice {
    pub(in crate::operations::build) fn publishes(&self) -> bool {
        self.image().is_some_and(|image| image.publish != Publish::No)
    }

    pub(in crate::operations::build) fn image(&self) -> Option<ImageOutput> {
        match self.kind {
            OutputKind::Image(image) => Some(image),
            _ => None,
        }
    }

    pub(in crate::operations::build) fn is_image(&self) -> bool {
        !matches!(self.kind, OutputKind::Local { .. } | OutputKind::Tar { .. })
    }

    /// Returns where files go, in words.
    pub(in crate::operations::build) fn place(&self) -> Option<String> {
        let destination = |to: &Destination| match to {
            Destination::File(path) => format!("`{}`", path.display()),
            Destination::Stdout => "standard output".to_owned(),
        };
        match &self.kind {
            OutputKind::Tar { to, .. } | OutputKind::Archive { to, .. } => Some(destination(to)),
            OutputKind::Local { directory, .. } | OutputKind::Layout { directory, .. } => {
                Some(format!("`{}`", directory.display()))
            }
            OutputKind::Image(_) => None,
        }
    }

    /// Returns whether times shall follow a date that there may not be.
    pub(in crate::operations::build) fn wants_date(&self) -> bool {
        self.options.timestamps == Timestamps::Rewrite
    }
}

/// Makes an image output publish, an added one when there is none.
fn push(outputs: &mut Vec<Output>) {
    let mut found = false;
    for output in outputs.iter_mut() {
        if let OutputKind::Image(image) = &mut output.kind {
            found = true;
            if image.publish == Publish::No {
                image.publish = Publish::ByName;
            }
        }
    }
    if !found {
        let image = ImageOutput { publish: Publish::ByName, keep: Keep::Named };
        outputs.push(Output::new(OutputKind::Image(image)));
    }
}

/// Keeps the image in the store, by an added output when none does.
fn load(outputs: &mut Vec<Output>) {
    let keeps = |output: &Output| matches!(&output.kind, OutputKind::Image(image) if image.keep != Keep::No);
    if !outputs.iter().any(keeps) {
        outputs.push(Output::store());
    }
}

fn choice(output: Output, request: &BuildRequest) -> Result<Choice, Error> {
    let mut options = output.image;
    options.annotations.extend(&request.delivery.annotations);
    // Tags win over the names that the output gives (buildx, `build/opt.go`).
    let given = if request.names.is_empty() { output.names } else { request.names.clone() };
    let publish = match output.kind {
        OutputKind::Image(image) => image.publish,
        _ => Publish::No,
    };
    if publish != Publish::No && given.is_empty() {
        return Err(Error::new(Kind::Settings, "tag is needed when pushing to registry")
            .hint("name the image with `-t registry/repository:tag`"));
    }
    let is_tagged = |name: &&Reference| {
        name.tag.as_ref().is_some_and(|tag| tag.to_string() != crate::image::DEFAULT_TAG)
    };
    if publish == Publish::ByDigest
        && let Some(name) = given.iter().find(is_tagged)
    {
        let message = format!("can't push tagged ref {} by digest", name.familiar());
        return Err(Error::new(Kind::Settings, message).hint("name it without a tag"));
    }
    let form = Form {
        compression: options.compression,
        compressed: options.compressed,
        media_types: options.media_types,
        annotations: options.annotations.clone(),
        new_layers: if request.delivery.squash { NewLayers::Squashed } else { NewLayers::Separate },
        ..Form::default()
    };
    let names = given.into_iter().map(Reference::or_latest).collect();
    Ok(Choice { kind: output.kind, names, form, times: Times::Keep, options })
}

/// Refuses a destination that cannot be written to.
fn check(output: &Output, request: &BuildRequest) -> Result<(), Error> {
    match &output.kind {
        OutputKind::Local { directory, .. } | OutputKind::Layout { directory, .. } => {
            check_directory(directory)
        }
        OutputKind::Tar { to: Destination::File(path), .. }
        | OutputKind::Archive { to: Destination::File(path), .. } => check_file(path),
        OutputKind::Tar { to: Destination::Stdout, .. } => check_stdout("tar", request),
        OutputKind::Archive { to: Destination::Stdout, .. } => check_stdout("oci", request),
        OutputKind::Image(_) => Ok(()),
    }
}

fn check_stdout(name: &str, request: &BuildRequest) -> Result<(), Error> {
    if request.delivery.stdout.is_some() {
        return Ok(());
    }
    let message =
        format!("dest file is required for {name} exporter. refusing to write to console");
    let hint = format!("write `-o type={name},dest=FILE`, or send standard output to a file");
    Err(Error::new(Kind::Settings, message).hint(hint))
}

fn check_directory(path: &Path) -> Result<(), Error> {
    if path.exists() && !path.is_dir() {
        let message = format!("destination directory `{}` is a file", path.display());
        return Err(Error::new(Kind::User, message));
    }
    // What is missing is made, in the nearest directory there is.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let nearest = absolute.ancestors().find(|path| path.exists());
    nearest.map_or(Ok(()), |nearest| check_writable(nearest, path))
}

fn check_file(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        let message = format!("destination file `{}` is a directory", path.display());
        return Err(Error::new(Kind::User, message).hint("name a file in it"));
    }
    if is_special(path) {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    if !parent.is_dir() {
        let message = format!(
            "cannot write `{}`: the directory `{}` does not exist",
            path.display(),
            parent.display()
        );
        return Err(Error::new(Kind::User, message).hint("make the directory first"));
    }
    check_writable(parent, path)
}

fn check_writable(directory: &Path, wanted: &Path) -> Result<(), Error> {
    rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        let message = format!(
            "cannot write `{}`: the directory `{}` is not writable",
            wanted.display(),
            directory.display()
        );
        Error::new(Kind::User, message).because(std::io::Error::from(errno))
    })
}

/// Returns whether `path` is a pipe or device, which is written to as it is.
pub(super) fn is_special(path: &Path) -> bool {
    fs_err::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_char_device() || kind.is_block_device()
    })
}

//! The variables of profiles, and what is known about a device and its user.

use core::fmt;
use std::collections::BTreeMap;
use thiserror::Error;

/// Longest value of an attribute, octets.
pub const MAX_VALUE: usize = 1024;

/// Whom a variable tells something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// The device.
    Device,
    /// The user: for certificates of users only.
    User,
    /// Whoever the certificate is for.
    Either,
}

/// Whether somebody who holds the device can choose the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It comes from the directory, or the management service has assigned it.
    Directory,
    /// The device reports it of itself.
    Device,
}

macro_rules! variables {
    ($($name:ident $(= $alias:literal)* , $about:ident, $origin:ident, $doc:literal;)*) => {
        /// A variable that a profile may use, by the names that device management knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Variable { $(#[doc = $doc] $name,)* }

        impl Variable {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The variable with this name, exactly as written.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) $(| $alias)* => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Whom it tells something about.
            #[must_use]
            pub const fn about(self) -> About {
                match self { $(Self::$name => About::$about,)* }
            }

            /// Who chooses its value.
            #[must_use]
            pub const fn origin(self) -> Origin {
                match self { $(Self::$name => Origin::$origin,)* }
            }
        }
    };
}

variables! {
    UserName, User, Directory, "The user's name for signing in, without a domain.";
    UserPrincipalName, User, Directory, "The user principal name, `ada@example.org`.";
    EmailAddress, User, Directory, "The user's e-mail address.";
    OnPremisesDistinguishedName = "OnPrem_Distinguished_Name", User, Directory,
        "The user's distinguished name in the directory, a whole subject: `CN=Ada,OU=Staff,DC=example,DC=org`.";
    OnPremisesSamAccountName, User, Directory, "The user's sAMAccountName.";
    OnPremisesSecurityIdentifier, Either, Directory, "The security identifier, `S-1-5-21-…`.";
    AzureADDeviceId = "AAD_Device_ID", Device, Directory, "The device's id in the directory.";
    DeviceId, Device, Directory, "The device's id in device management; needs no attribute.";
    SerialNumber = "Device_Serial", Device, Device, "The serial number.";
    IMEI = "IMEINumber" = "Device_IMEI", Device, Device, "The mobile equipment identity.";
    MEID, Device, Device, "The mobile equipment identifier.";
    WiFiMacAddress, Device, Device, "The address of the wireless interface.";
    DeviceName, Device, Device, "The device's name.";
    FullyQualifiedDomainName, Device, Device, "The device's name in DNS.";
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{{}}}}}", self.name())
    }
}

/// Why something is no attribute.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AttributesError {
    /// Not `name=value`.
    #[error("`{text}` is not of the form name=value")]
    Pair {
        /// As written.
        text: String,
    },
    /// No variable has this name.
    #[error("no variable is called `{name}`")]
    Unknown {
        /// As written.
        name: String,
    },
    /// Two values for one variable, under one name or two.
    #[error("{variable} is given twice")]
    Twice {
        /// Which.
        variable: Variable,
    },
    /// Empty, or longer than [`MAX_VALUE`].
    #[error("{variable} has {got} octets; 1 to {MAX_VALUE} are allowed")]
    Length {
        /// Which.
        variable: Variable,
        /// Its octets.
        got: usize,
    },
    /// No TOML table of texts.
    #[error("attributes{}: {message}", crate::profile::at(*line))]
    Syntax {
        /// Its line, where the parser knows it.
        line: Option<usize>,
        /// As the parser says.
        message: String,
    },
}

/// What is known about a device and its user: a value for each variable that is known.
///
/// ```
/// use scep_issuance::{Attributes, Variable};
///
/// let attributes = Attributes::from_pairs(["DeviceName=kiosk-7", "Device_Serial=C02XK1"])?;
/// assert_eq!(attributes.get(Variable::SerialNumber), Some("C02XK1"));
/// assert_eq!(attributes, Attributes::from_toml("DeviceName = 'kiosk-7'\nSerialNumber = 'C02XK1'")?);
/// assert!(Attributes::from_pairs(["DevicName=kiosk-7"]).is_err());
/// # Ok::<(), scep_issuance::AttributesError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<Variable, String>);

impl Attributes {
    /// Without a value.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds one value.
    ///
    /// # Errors
    /// When the variable has a value already, or the value is empty or too long.
    pub fn insert(
        &mut self,
        variable: Variable,
        value: impl Into<String>,
    ) -> Result<(), AttributesError> {
        let value = value.into();
        if value.is_empty() || value.len() > MAX_VALUE {
            return Err(AttributesError::Length { variable, got: value.len() });
        }
        match self.0.insert(variable, value) {
            Some(_) => Err(AttributesError::Twice { variable }),
            None => Ok(()),
        }
    }

    fn insert_named(&mut self, name: &str, value: &str) -> Result<(), AttributesError> {
        let variable = Variable::from_name(name)
            .ok_or_else(|| AttributesError::Unknown { name: crate::profile::shown(name) })?;
        self.insert(variable, value)
    }

    /// From `name=value`, names with or without aliases.
    ///
    /// # Errors
    /// When one is not of that form, unknown, given twice, empty or too long.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, AttributesError> {
        let mut attributes = Self::new();
        for pair in pairs {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| AttributesError::Pair { text: crate::profile::shown(pair) })?;
            attributes.insert_named(name.trim(), value)?;
        }
        Ok(attributes)
    }

    /// From a TOML table of texts.
    ///
    /// # Errors
    /// As for [`Attributes::from_pairs`], or when it is no such table.
    pub fn from_toml(text: &str) -> Result<Self, AttributesError> {
        let table: BTreeMap<String, String> = toml::from_str(text).map_err(|error| {
            let (line, message) = crate::profile::syntax(text, &error);
            AttributesError::Syntax { line, message }
        })?;
        let mut attributes = Self::new();
        for (name, value) in &table {
            attributes.insert_named(name, value)?;
        }
        Ok(attributes)
    }

    /// Every variable that has a value, and the value.
    pub fn iter(&self) -> impl Iterator<Item = (Variable, &str)> {
        self.0.iter().map(|(variable, value)| (*variable, value.as_str()))
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, variable: Variable) -> Option<&str> {
        self.0.get(&variable).map(String::as_str)
    }
}

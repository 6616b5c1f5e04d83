//! The built-in table of grid carbon intensities.
//!
//! Source: Ember, *Yearly Electricity Data* (CC BY 4.0,
//! <https://ember-energy.org/data/yearly-electricity-data/>), as published in the Green Web Foundation's
//! CO2.js (`average-intensities.json`), in the edition that has 2023 for most of Europe and 2022 for the
//! others: grams of CO₂ equivalent per kilowatt hour *generated*, over the life cycle of the plants.
//!
//! Each value is the average of a country's generation over the year next to it. It does not include imports,
//! grid losses, the hour and the season. It is good for comparing machines, not for scheduling work: use
//! `intensity_file` for that. Later editions revise such values; that of Ukraine in 2022 is the least
//! certain.

/// A country's average.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Country {
    alpha2: &'static str,
    alpha3: &'static str,
    /// Grams of CO₂ equivalent per kilowatt hour.
    pub(crate) grams_per_kwh: f64,
    /// The year of the average.
    pub(crate) year: u16,
}

const fn average(alpha2: &'static str, alpha3: &'static str, grams_per_kwh: f64, year: u16) -> Country {
    Country { alpha2, alpha3, grams_per_kwh, year }
}

#[rustfmt::skip]
const COUNTRIES: [Country; 69] = [
    average("AE", "ARE", 561.14, 2022), // United Arab Emirates
    average("AR", "ARG", 394.62, 2022), // Argentina
    average("AT", "AUT", 110.81, 2023), // Austria
    average("AU", "AUS", 570.35, 2022), // Australia
    average("BE", "BEL", 138.11, 2023), // Belgium
    average("BG", "BGR", 335.33, 2023), // Bulgaria
    average("BR", "BRA", 105.51, 2022), // Brazil
    average("CA", "CAN", 161.43, 2022), // Canada
    average("CH", "CHE", 34.84, 2023), // Switzerland
    average("CL", "CHL", 353.52, 2022), // Chile
    average("CN", "CHN", 585.82, 2022), // China
    average("CO", "COL", 214.88, 2022), // Colombia
    average("CR", "CRI", 26.46, 2022), // Costa Rica
    average("CY", "CYP", 534.32, 2023), // Cyprus
    average("CZ", "CZE", 449.72, 2023), // Czechia
    average("DE", "DEU", 380.95, 2023), // Germany
    average("DK", "DNK", 151.65, 2023), // Denmark
    average("EE", "EST", 416.67, 2023), // Estonia
    average("EG", "EGY", 570.13, 2022), // Egypt
    average("ES", "ESP", 174.05, 2023), // Spain
    average("FI", "FIN", 79.16, 2023), // Finland
    average("FR", "FRA", 56.04, 2023), // France
    average("GB", "GBR", 237.59, 2023), // United Kingdom
    average("GR", "GRC", 336.57, 2023), // Greece
    average("HK", "HKG", 699.5, 2022), // Hong Kong
    average("HR", "HRV", 204.96, 2023), // Croatia
    average("HU", "HUN", 204.19, 2023), // Hungary
    average("ID", "IDN", 675.93, 2022), // Indonesia
    average("IE", "IRL", 290.81, 2023), // Ireland
    average("IL", "ISR", 582.93, 2022), // Israel
    average("IN", "IND", 705.13, 2022), // India
    average("IS", "ISL", 27.68, 2022), // Iceland
    average("IT", "ITA", 330.72, 2023), // Italy
    average("JP", "JPN", 512.81, 2022), // Japan
    average("KE", "KEN", 83.33, 2022), // Kenya
    average("KR", "KOR", 441.65, 2022), // South Korea
    average("LT", "LTU", 160.07, 2023), // Lithuania
    average("LU", "LUX", 105.26, 2023), // Luxembourg
    average("LV", "LVA", 123.2, 2023), // Latvia
    average("MA", "MAR", 662.64, 2022), // Morocco
    average("MT", "MLT", 459.14, 2023), // Malta
    average("MX", "MEX", 475.36, 2022), // Mexico
    average("MY", "MYS", 605.83, 2022), // Malaysia
    average("NG", "NGA", 516.23, 2022), // Nigeria
    average("NL", "NLD", 267.62, 2023), // Netherlands
    average("NO", "NOR", 30.08, 2023), // Norway
    average("NZ", "NZL", 110.89, 2022), // New Zealand
    average("PE", "PER", 251.74, 2022), // Peru
    average("PH", "PHL", 601.1, 2022), // Philippines
    average("PL", "POL", 661.93, 2023), // Poland
    average("PT", "PRT", 165.55, 2023), // Portugal
    average("RO", "ROU", 240.58, 2023), // Romania
    average("RS", "SRB", 636.06, 2023), // Serbia
    average("RU", "RUS", 436.28, 2022), // Russia
    average("SA", "SAU", 706.79, 2022), // Saudi Arabia
    average("SE", "SWE", 40.7, 2023), // Sweden
    average("SG", "SGP", 474.0, 2022), // Singapore
    average("SI", "SVN", 231.28, 2023), // Slovenia
    average("SK", "SVK", 116.77, 2023), // Slovakia
    average("TH", "THA", 560.74, 2022), // Thailand
    average("TR", "TUR", 464.59, 2023), // Türkiye
    average("TW", "TWN", 639.53, 2022), // Taiwan
    average("UA", "UKR", 259.69, 2022), // Ukraine
    average("US", "USA", 385.98, 2022), // United States
    average("UY", "URY", 112.65, 2022), // Uruguay
    average("VN", "VNM", 409.8, 2022), // Viet Nam
    average("ZA", "ZAF", 729.67, 2022), // South Africa
    average("EU", "EU", 243.83, 2023), // European Union, 27 members
    average("WORLD", "WORLD", 485.99, 2022),
];

/// The country with the ISO 3166 code `code`, of two or of three letters, in any case.
pub(crate) fn find(code: &str) -> Option<Country> {
    let named = |c: &&Country| c.alpha2.eq_ignore_ascii_case(code) || c.alpha3.eq_ignore_ascii_case(code);
    COUNTRIES.iter().find(named).copied()
}

/// All codes, for a message.
pub(crate) fn codes() -> String {
    COUNTRIES.map(|country| country.alpha2).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_values_plausible() {
        for (i, country) in COUNTRIES.iter().enumerate() {
            let Country { alpha2, alpha3, grams_per_kwh, year } = *country;
            let found = find(&alpha3.to_lowercase()).unwrap();
            assert_eq!((found.alpha2, found.grams_per_kwh), (alpha2, grams_per_kwh));
            assert!(COUNTRIES[..i].iter().all(|c| c.alpha2 < alpha2 || i >= COUNTRIES.len() - 2), "{alpha2}");
            assert!((20.0..1000.0).contains(&grams_per_kwh) && (2022..=2023).contains(&year), "{alpha2}");
        }
        assert!(find("XX").is_none() && find("").is_none());
    }
}

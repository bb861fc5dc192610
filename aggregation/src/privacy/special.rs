//! Logarithms of special functions, exact where the functions themselves leave the range of f64.

/// Gives `ln erfc(x)`.
pub(super) fn ln_erfc(x: f64) -> f64 {
    if x < 20.0 {
        return libm::erfc(x).ln();
    }
    // erfc(x) = e^(-x^2) / (x sqrt(pi)) * (1 - 1/(2x^2) + 3/(4x^4) - 15/(8x^6) + 105/(16x^8) - ..): the asymptotic series, whose
    // first term left out is below 1e-12 of the whole from x = 20 on (Abramowitz and Stegun 1964, 7.1.23).
    let y = 1.0 / (2.0 * x * x);
    let tail = -y * (1.0 - 3.0 * y * (1.0 - 5.0 * y * (1.0 - 7.0 * y)));
    -x * x - x.ln() - 0.5 * std::f64::consts::PI.ln() + tail.ln_1p()
}

/// Gives `ln |binomial(alpha, i)|` and whether the binomial is negative; a binomial of zero has the logarithm minus infinity.
pub(super) fn ln_binomial(alpha: f64, i: f64) -> (f64, bool) {
    let rest = alpha - i + 1.0;
    if rest <= 0.0 && rest.fract() == 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    let (ln_rest, sign) = libm::lgamma_r(rest);
    (
        libm::lgamma(alpha + 1.0) - libm::lgamma(i + 1.0) - ln_rest,
        sign < 0,
    )
}

/// Gives `ln(e^x - 1)` for `x > 0`.
pub(super) fn ln_expm1(x: f64) -> f64 {
    if x > 40.0 { x } else { x.exp_m1().ln() }
}

/// Gives the distribution function of the standard normal distribution at `x`.
pub(super) fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_error_function_meet() {
        // erfc(20) = 5.3958656116079005e-176 (mpmath), far inside f64.
        assert!((ln_erfc(20.0) - 5.395_865_611_607_901e-176_f64.ln()).abs() < 1e-11);
        assert!((ln_erfc(20.0) - libm::erfc(20.0).ln()).abs() < 1e-11);
        assert!((ln_erfc(26.0) - libm::erfc(26.0).ln()).abs() < 1e-10);
        assert_eq!(ln_erfc(0.0), 0.0);
    }

    #[test]
    fn binomials_of_whole_and_fractional_order_have_their_signs() {
        let close = |(ln, negative): (f64, bool), expected: f64| {
            let found = if negative { -ln.exp() } else { ln.exp() };
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        };
        close(ln_binomial(5.0, 2.0), 10.0);
        close(ln_binomial(5.0, 6.0), 0.0);
        // 2.5 * 1.5 * 0.5 / 6, then times -0.5 / 4.
        close(ln_binomial(2.5, 3.0), 0.3125);
        close(ln_binomial(2.5, 4.0), -0.039_062_5);
        close(ln_binomial(2.5, 5.0), 0.011_718_75);
    }
}
